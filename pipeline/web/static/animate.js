// The tab Animate: what goes in, the cut, who dances, the fitted pose and the animatic; then plan and run.
"use strict";
{
const {element, ask, complain, calm} = posedance;
const SETTLED_MS = 600, POLL_MS = 500;
const VIDEO = /\.(mp4|mov|webm|mkv|avi|m4v|gif)$/i, RESULT = /\.(mp4|mkv|ya?ml)$/i;
let uploads = [], missing = [], round = 0, timer = null, told = null;
const chosen = kind => uploads.find(each => each.identity === posedance.draft[kind === "video" ? "driving" : "character"]);

async function upload(kind, file) {
  const section = document.getElementById(kind === "video" ? "driving" : "character");
  const drop = section.querySelector(".pd-drop"), bar = element("progress", {max: file.size || 1, value: 0, "aria-label": `upload of ${file.name}`});
  drop.append(bar);
  try {
    const found = await new Promise((done, failed) => {
      const request = new XMLHttpRequest();
      request.open("PUT", `api/upload/${kind}`);
      request.setRequestHeader("x-name", encodeURIComponent(file.name || "camera"));
      request.upload.onprogress = event => { bar.value = event.loaded; };
      request.onerror = () => failed({error: "the upload was cut off: is the file too large, or the server gone?", field: kind === "video" ? "driving" : "character"});
      request.onload = () => {
        let told = {};
        try { told = JSON.parse(request.responseText); } catch { told = {error: request.responseText}; }
        if (request.status === 200) done(told);
        else failed({error: told.error || `the server answered ${request.status}`, field: kind === "video" ? "driving" : "character"});
      };
      request.send(file);
    });
    uploads = [found, ...uploads.filter(each => each.identity !== found.identity)];
    return found;
  } finally { bar.remove(); }
}
async function take(kind, files) {
  calm();
  const wrong = [];
  for (const file of files) {
    try { choose(await upload(kind, file)); } catch (problem) { wrong.push(problem); }
  }
  if (wrong.length) complain({...wrong[0], error: wrong.map(each => each.error).join("; ")});
}
function choose(found, fresh = true) {
  posedance.draft[found.kind === "video" ? "driving" : "character"] = found.identity;
  if (fresh) {
    posedance.draft.like = null;
    missing = [];
  }
  if (fresh && found.kind === "video") posedance.fill({start: 0, duration: null, person: null});
  draw();
  preview();
}
function draw() {
  for (const kind of ["video", "picture"]) {
    const section = document.getElementById(kind === "video" ? "driving" : "character");
    if (!section) return;
    const here = uploads.filter(each => each.kind === kind), now = chosen(kind);
    section.querySelector(".pd-gallery").replaceChildren(...here.slice(0, 40).map(each => element("button", {type: "button",
      role: "option", "aria-selected": each === now, title: each.title, "aria-label": each.title, onclick: () => choose(each)},
      element("img", {src: `api/upload-thumb/${each.identity}`, alt: "", loading: "lazy"}))));
    const stage = section.querySelector(".pd-stage");
    stage.hidden = !now;
    if (!now) continue;
    stage.querySelector(".pd-facts").textContent = kind === "video"
      ? `${now.title}: ${now.width}×${now.height}, ${now.fps.toFixed(2).replace(/\.?0+$/, "")} frames a second, ${now.seconds.toFixed(1)} s${now.sound ? ", with sound" : ""}`
      : `${now.title}: ${now.width}×${now.height}`;
    if (kind === "picture") source(stage.querySelector("img"), `api/upload-file/picture/${now.identity}`);
    else {
      source(stage.querySelector(".pd-strip img"), `api/strip/${now.identity}`);
      if (stage.dataset.identity !== now.identity) {
        stage.dataset.identity = now.identity;
        people(null);
        source(stage.querySelector(".pd-people img"), `api/upload-thumb/${now.identity}`);
      }
      drawCut();
    }
  }
  const both = posedance.draft.driving && posedance.draft.character;
  document.getElementById("example-box").hidden = Boolean(both);
  const like = document.getElementById("like");
  const from = posedance.draft.like ? `Settings of job ${posedance.draft.like}: what does not change is taken over from it.` : "";
  like.textContent = [from, missing.length ? `Not here, so drop them in: ${missing.join(", ")}.` : ""].filter(Boolean).join(" ");
  like.hidden = !like.textContent;
}
function source(image, path) { if (image.getAttribute("src") !== path) image.src = path; }

// The cut: two handles over the strip, and the fields Start and Duration; either moves the other.
function drawCut() {
  const now = chosen("video"), strip = document.querySelector(".pd-strip");
  if (!now || !strip) return;
  const start = Number(posedance.values.start) || 0, length = posedance.values.duration ?? now.seconds;
  const from = Math.min(1, start / now.seconds), to = Math.min(1, (start + Number(length)) / now.seconds);
  strip.querySelector(".pd-from").value = from;
  strip.querySelector(".pd-to").value = to;
  Object.assign(strip.querySelector(".pd-cut").style, {left: `${100 * from}%`, width: `${100 * Math.max(0, to - from)}%`});
}
function moveCut(done) {
  const now = chosen("video"), strip = document.querySelector(".pd-strip");
  if (!now) return;
  let from = Number(strip.querySelector(".pd-from").value), to = Number(strip.querySelector(".pd-to").value);
  if (to - from < 0.01) [from, to] = [Math.max(0, Math.min(from, to - 0.01)), Math.max(to, from + 0.01)];
  const start = Number((from * now.seconds).toFixed(2)), end = to * now.seconds;
  const whole = to > 0.999, duration = whole ? null : Number(Math.max(0.05, end - start).toFixed(2));
  posedance.values = {...posedance.values, start, duration};
  Object.assign(strip.querySelector(".pd-cut").style, {left: `${100 * from}%`, width: `${100 * (to - from)}%`});
  if (done) posedance.fill({start, duration});
}

// Who dances: boxes over the first frame of the cut; a click names the point.
function people(found) {
  const place = document.querySelector(".pd-people");
  if (!place) return;
  const image = place.querySelector("img");
  place.querySelectorAll("button, .pd-point").forEach(each => each.remove());
  image.onclick = null;
  if (!found) return;
  image.src = `api/preview-file/${found.files[2]}`;
  const [width, height] = found.size, [atX, atY] = String(posedance.values.person || "").split(",").map(Number);
  image.onclick = event => posedance.fill({person: `${Math.round(width * event.offsetX / image.clientWidth)},${
    Math.round(height * event.offsetY / image.clientHeight)}`});
  if (atX >= 0 && atY >= 0) {
    const point = element("span", {className: "pd-point"});
    Object.assign(point.style, {left: `${100 * atX / width}%`, top: `${100 * atY / height}%`});
    place.append(point);
  }
  found.people.forEach(([left, top, right, bottom], i) => {
    const x = Math.round((left + right) / 2), y = Math.round((top + bottom) / 2);
    const is = atX >= left && atX <= right && atY >= top && atY <= bottom;
    const box = element("button", {type: "button", className: "pd-person", "aria-pressed": is,
      "aria-label": `follow person ${i + 1} from the left`, onclick: () => posedance.fill({person: `${x},${y}`})});
    Object.assign(box.style, {left: `${100 * left / width}%`, top: `${100 * top / height}%`,
      width: `${100 * (right - left) / width}%`, height: `${100 * (bottom - top) / height}%`});
    place.append(box);
  });
}

// The first look, then the whole dance; what is asked for meanwhile takes the place of what is not begun.
function preview() {
  clearTimeout(timer);
  timer = setTimeout(show, SETTLED_MS);
}
async function wait(what, mine) {
  const asked = posedance.asked();
  for (;;) {
    const found = await ask(`api/preview/${what}`, asked);
    if (mine !== round || found.state === "done") return found;
    if (found.state === "failed") throw {error: found.error, field: found.field || "align"};
    await new Promise(done => setTimeout(done, POLL_MS));
  }
}
function forget() {  // what a preview complained of, and nothing that plan or run say
  document.querySelectorAll(".pd-error[data-field]").forEach(each => { if (told && each.textContent === told) each.textContent = ""; });
  told = null;
}
async function show() {
  document.getElementById("paint-box").hidden = !(posedance.values.character_prompt && posedance.draft.driving);
  if (!posedance.draft.driving || !posedance.draft.character || posedance.values.character_prompt) return;
  const mine = ++round, facts = document.getElementById("fit-facts"), box = document.querySelector(".pd-fit");
  const video = document.getElementById("animatic"), image = document.getElementById("fit-picture");
  box.hidden = false;
  box.setAttribute("aria-busy", "true");
  facts.textContent = "looking for the dancer …";
  try {
    const first = await wait("fit", mine);
    if (mine !== round) return;
    forget();
    video.hidden = true;
    image.hidden = false;
    image.src = `api/preview-file/${first.files[0]}`;
    facts.textContent = [first.seen, ...first.notes].join("; ");
    people(first);
    const whole = await wait("animatic", mine);
    if (mine !== round) return;
    video.src = `api/preview-file/${whole.files[0]}`;
    video.hidden = false;
    image.hidden = true;
    video.play().catch(() => {});
  } catch (problem) {
    if (mine !== round) return;
    facts.textContent = "";
    box.hidden = image.hidden = true;
    forget();
    told = problem.error;
    complain(problem);
  } finally { if (mine === round) box.removeAttribute("aria-busy"); }
}

posedance.plan = async function (listed, values) {
  posedance.read(listed, values);
  const lines = document.getElementById("plan-lines");
  calm();
  lines.replaceChildren(element("dd", {}, "opening the model …"));
  try {
    const {lines: told, time} = await ask("api/plan", posedance.asked());
    lines.replaceChildren(...[...told, ["time", time]].flatMap(([name, text]) => [element("dt", {}, name), element("dd", {}, text)]));
  } catch (problem) { lines.replaceChildren(); complain(problem); }
};
posedance.run = async function (listed, values) {
  posedance.read(listed, values);
  calm();
  const button = document.querySelector("#run");
  if (button.disabled) return;
  button.disabled = true;
  try {
    const begun = await ask("api/run", posedance.asked());
    localStorage.setItem("pd-current", begun.name);
    await posedance.lookNow();
    await posedance.viewerAt(document.getElementById("current")).show(begun.name);
  } catch (problem) { complain(problem); } finally { button.disabled = false; }
};

// Settings of a job here, or of a file that somebody kept: they come into the fields, and its inputs where they are here.
function fillFrom(found) {
  const empty = Object.fromEntries(posedance.order.map(name => [name, null]));
  missing = found.missing || [];
  const tells = found.like || found.driving || found.character || missing.length, {driving, character} = posedance.draft;
  posedance.draft = tells ? {driving: found.driving || null, character: found.character || null, like: found.like || null}
    : {driving, character, like: null};  // a result's mp4 tells no inputs: those that are chosen stay
  posedance.tab("Animate");
  posedance.fill({...empty, preset: "default", seed: 0, stride: 2, start: 0, align: "limbs", fit: "crop", ...found.options});
  draw();
  preview();
}
posedance.takeSettings = async function (name) {
  try { fillFrom(await ask(`api/settings/${posedance.part(name)}`)); } catch (problem) { complain(problem, spot()); }
};
posedance.takeFile = async function (file, folder) {
  if (!file) return;
  calm();
  try {
    const here = folder && posedance.jobs.find(job => job.name === folder);
    if (here && (await ask(`api/job/${posedance.part(folder)}`)).config === await file.text()) {
      return await posedance.takeSettings(folder);  // the folder of a job here: what does not change is taken over
    }
    const answer = await fetch("api/upload/settings", {method: "PUT", body: file, headers: {"x-name": encodeURIComponent(file.name)}});
    const found = await answer.json();
    if (!answer.ok) throw found;
    fillFrom(found);
  } catch (problem) { complain({error: problem.error || "these settings cannot be read", field: ""}, spot()); }
};

function spot() {  // where an error about settings is seen
  const jobs = document.getElementById("jobs-error");
  return jobs && jobs.offsetParent !== null ? "jobs-error" : "run-error";
}

// What is dropped: the settings of a folder or file of a result anywhere, else videos and pictures on their places.
async function filesOf(folder) {
  const reader = folder.createReader(), found = [];
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) break;
    found.push(...some);
  }
  return Promise.all(found.filter(each => each.isFile).map(each => new Promise((done, failed) => each.file(done, failed))));
}
async function takeFolder(kind, files, name) {
  const settings = files.find(file => file.name === "config.yaml");
  const videos = files.filter(file => VIDEO.test(file.name));
  if (settings) await posedance.takeFile(settings, name);
  else if (kind === "video" && videos.length) await take(kind, videos);
  else complain({error: `${name} holds no ${kind === "video" ? "videos and no " : ""}config.yaml of a result`, field: ""}, spot());
}
async function dropped(event, kind) {
  event.preventDefault();
  event.stopPropagation();
  const entries = [...event.dataTransfer.items].map(item => item.webkitGetAsEntry?.()), files = [...event.dataTransfer.files];
  for (const entry of entries) if (entry?.isDirectory) await takeFolder(kind, await filesOf(entry), entry.name);
  const plain = files.filter((_, i) => !entries[i]?.isDirectory);
  const settings = plain.find(file => kind ? file.name === "config.yaml" : RESULT.test(file.name));
  if (settings) await posedance.takeFile(settings);
  else if (plain.length && kind) await take(kind, plain);
  else if (plain.length) complain({error: `${plain[0].name} is no result: drop videos and pictures on their own places`, field: ""}, spot());
}
document.addEventListener("dragover", event => { if (event.dataTransfer.types.includes("Files")) event.preventDefault(); });
document.addEventListener("drop", event => { if (event.dataTransfer.types.includes("Files")) dropped(event, null); });

// Camera: a picture, or a video of a few seconds, recorded here and taken as a file.
async function camera(kind, button) {
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({video: true, audio: kind === "video"});
  } catch { complain({error: "the camera cannot be opened: allow it in the browser, over https or on localhost", field: kind === "video" ? "driving" : "character"}); return; }
  const seen = element("video", {srcObject: stream, muted: true, autoplay: true, playsInline: true, className: "pd-camera"});
  const act = element("button", {type: "button", className: "pd-button pd-primary"}, kind === "video" ? "Record" : "Take the picture");
  const box = element("div", {className: "pd-row"}, seen, act);
  button.after(box);
  const end = () => { stream.getTracks().forEach(track => track.stop()); box.remove(); };
  act.onclick = () => {
    if (kind === "picture") {
      const canvas = element("canvas", {width: seen.videoWidth, height: seen.videoHeight});
      canvas.getContext("2d").drawImage(seen, 0, 0);
      canvas.toBlob(blob => { end(); take(kind, [new File([blob], "camera.png")]); });
      return;
    }
    const parts = [], recorder = new MediaRecorder(stream);
    recorder.ondataavailable = event => parts.push(event.data);
    recorder.onstop = () => { end(); take(kind, [new File(parts, "camera.webm")]); };
    recorder.start();
    act.textContent = "Stop";
    act.onclick = () => recorder.stop();
  };
}

posedance.when("#example", button => {
  button.onclick = async () => {
    button.disabled = true;
    try {
      const [video, character] = await ask("api/example", {});
      uploads = [video, character, ...uploads.filter(each => ![video.identity, character.identity].includes(each.identity))];
      posedance.draft = {driving: video.identity, character: character.identity, like: null};
      posedance.fill({start: 0, duration: 2, stride: 1, person: null, preset: "preview", seed: 0});
      draw();
      preview();
    } catch (problem) { complain(problem); } finally { button.disabled = false; }
  };
});
posedance.when(".pd-inputs", async place => {
  for (const drop of place.querySelectorAll(".pd-drop")) {
    const kind = drop.dataset.kind, folder = drop.querySelector(".pd-folder"), input = drop.querySelector("input[type=file]");
    input.onchange = event => { take(kind, [...event.target.files]); };
    drop.ondragover = event => { event.preventDefault(); drop.classList.add("pd-over"); };
    drop.ondragleave = () => drop.classList.remove("pd-over");
    drop.ondrop = event => {
      drop.classList.remove("pd-over");
      return dropped(event, kind);
    };
    drop.querySelectorAll("[data-do]").forEach(button => {
      button.onclick = () => button.dataset.do === "camera" ? camera(kind, button.parentElement) : folder.click();
    });
    if (folder) folder.onchange = event => {
      const files = [...event.target.files], name = files[0]?.webkitRelativePath.split("/")[0];
      takeFolder(kind, files.filter(file => file.webkitRelativePath.split("/").length < 3 || VIDEO.test(file.name)), name);
    };
  }
  const paint = document.getElementById("paint");
  paint.onclick = async () => {
    calm();
    paint.disabled = true;
    paint.textContent = "Painting …";
    try {
      const found = await ask("api/paint", posedance.asked());
      uploads = [found, ...uploads.filter(each => each.identity !== found.identity)];
      posedance.fill({character_prompt: null});  // from here on it is a picture as any other
      choose(found);
    } catch (problem) { complain(problem); } finally {
      paint.disabled = false;
      paint.textContent = "Paint the character now";
    }
  };
  for (const handle of place.querySelectorAll(".pd-strip input")) {
    handle.oninput = () => moveCut(false);
    handle.onchange = () => moveCut(true);
  }
  try { uploads = await ask("api/uploads"); } catch { uploads = []; }
  posedance.uploads = () => uploads;
  draw();
  document.dispatchEvent(new CustomEvent("pd-uploads"));
});
let before = "";
document.addEventListener("pd-changed", () => {
  drawCut();
  const now = JSON.stringify(["start", "duration", "stride", "person", "align", "fit", "width", "height",
    "character_prompt"].map(name => posedance.values[name]));
  if (now !== before) { before = now; preview(); }
});
}
