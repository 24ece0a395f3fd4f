// The list of jobs and the queue, read from the server again and again; nothing is drawn that did not change.
"use strict";
{
const {element, ask, part, words, bar} = posedance;
const PER_PAGE = 48, LOOK_MS = 1000, HIDDEN_MS = 5000;
let queue = {paused: false, jobs: [], working: null}, shown = PER_PAGE, last = "", dragged = null;

async function fetchJobs() {
  const found = await ask("api/jobs"), text = JSON.stringify(found);
  posedance.jobs = found.jobs;
  queue = found.queue;
  if (text === last) return;
  last = text;
  draw();
  document.dispatchEvent(new CustomEvent("pd-jobs"));
}
async function look() {
  try {
    await fetchJobs();
  } catch {
    chip("the server does not answer");
    last = "";
  }
  for (const viewer of posedance.viewers.values()) await viewer.look();
  setTimeout(look, document.hidden ? HIDDEN_MS : LOOK_MS);
}
posedance.lookNow = () => fetchJobs().catch(() => {});

function chip(text) {
  const place = document.getElementById("queue-chip");
  if (place && place.textContent !== text) place.textContent = text;
}
const picture = name => element("img", {src: `api/thumb/${part(name)}`, alt: "", loading: "lazy", decoding: "async",
  onerror() { this.classList.add("pd-none"); }});

function draw() {
  const running = posedance.jobs.filter(job => job.state === "running"), waits = queue.jobs.length;
  const rest = waits ? `${waits} waiting${queue.paused ? ", paused" : ""}` : "";
  chip(running.length ? [`${running[0].title}: ${words(running[0].shares)}`, rest].filter(Boolean).join(" · ")
    : rest || "nothing runs");
  drawQueue();
  drawList();
}
function drawList() {
  const list = document.getElementById("job-list");
  if (!list) return;
  const find = document.getElementById("job-find").value.toLowerCase(), state = document.getElementById("job-state").value;
  const found = posedance.jobs.filter(job => (!state || job.state === state)
    && `${job.title} ${job.name}`.toLowerCase().includes(find));
  document.getElementById("job-count").textContent = `${found.length} of ${posedance.jobs.length} jobs`;
  const rows = found.slice(0, shown).map(job => [job.name, JSON.stringify(job), () => card(job)]);
  const none = posedance.jobs.length ? "No job is like that."
    : "No job yet: make one in the tab Animate, or with run.py animate -o in this folder.";
  if (!rows.length) rows.push(["", none, () => element("li", {className: "pd-empty"}, none)]);
  posedance.patch(list, rows);
  document.getElementById("job-more").hidden = found.length <= shown;
}
function card(job) {
  const told = ["model", "preset", "seed"].filter(key => job.options[key] !== undefined)
    .map(key => key === "seed" ? `seed ${job.options[key]}` : job.options[key]).join(" · ");
  const button = element("button", {type: "button", className: "pd-open", onclick: () => open(job)}, picture(job.name),
    element("span", {className: "pd-title"}, job.title), element("span", {className: `pd-state pd-${job.state}`}, job.state),
    element("span", {className: "pd-facts"}, job.kind === "video" ? told : job.kind));
  const more = [];
  if (job.state === "running") more.push(bar(job.shares), element("span", {className: "pd-facts"}, words(job.shares)));
  if (job.error) more.push(element("p", {className: "pd-error"}, job.error));
  return element("li", {className: "pd-card pd-job", dataset: {name: job.name}}, button, ...more);
}
function open(job) {
  if (job.kind === "batch") {
    posedance.wantedBatch = job.name;
    posedance.tab("Batch");
    document.dispatchEvent(new CustomEvent("pd-batch"));
  } else if (job.kind === "curation") {
    posedance.wantedCuration = job.name;
    posedance.tab("Curation");
    document.dispatchEvent(new CustomEvent("pd-curation"));
  } else posedance.show(job.name);
}
async function reorder(names) {
  await ask("api/queue", {jobs: names});
  await posedance.lookNow();
}
function moved(name, to) {
  const names = queue.jobs.filter(each => each !== name);
  names.splice(to, 0, name);
  return reorder(names);
}
function drawQueue() {
  const list = document.getElementById("queue-list"), pause = document.getElementById("pause");
  if (!list || dragged) return;
  pause.textContent = queue.paused ? "Go on" : "Pause";
  pause.setAttribute("aria-pressed", queue.paused);
  const known = Object.fromEntries(posedance.jobs.map(job => [job.name, job]));
  const rows = [queue.working, ...queue.jobs].filter(Boolean).map(name => {
    const job = {name, title: known[name]?.title || name, works: name === queue.working, at: queue.jobs.indexOf(name),
      last: queue.jobs.length - 1, told: name === queue.working ? words(known[name]?.shares) : "waits"};
    return [name, JSON.stringify(job), () => queued(job)];
  });
  posedance.patch(list, rows.length ? rows
    : [["", "", () => element("li", {className: "pd-facts"}, "nothing waits")]]);
}
function queued({name, title, works, at, last, told}) {
  const button = (text, act, label, onclick, disabled = false) => element("button", {type: "button", className: "pd-button",
    onclick, disabled, dataset: {act}, "aria-label": `${label} ${title}`}, text);
  const arrows = works ? [] : [button("↑", "up", "earlier:", () => moved(name, at - 1), at === 0),
    button("↓", "down", "later:", () => moved(name, at + 1), at === last)];
  const shown = picture(name);
  shown.draggable = false;
  const row = element("li", {className: works ? "pd-working" : "", draggable: !works, dataset: {name}}, shown,
    element("span", {className: "pd-title"}, title), element("span", {className: "pd-facts"}, told), ...arrows,
    button("Cancel", "cancel", "cancel", () => posedance.cancel(name)));
  row.ondragstart = event => { dragged = name; event.dataTransfer.setData("text/plain", name); };
  row.ondragend = () => { dragged = null; drawQueue(); };
  row.ondragover = event => { if (dragged) event.preventDefault(); };
  row.ondrop = event => {
    const other = dragged;
    if (!other) return;
    event.preventDefault();
    event.stopPropagation();
    dragged = null;
    if (queue.jobs.includes(other) && other !== name) moved(other, Math.max(0, at));
  };
  return row;
}

posedance.when("#job-list", () => {
  document.getElementById("job-more").onclick = () => { shown += PER_PAGE; drawList(); };
  document.getElementById("job-find").oninput = document.getElementById("job-state").onchange = () => {
    shown = PER_PAGE;
    drawList();
  };
  document.getElementById("settings-file").onchange = event => posedance.takeFile(event.target.files[0]);
  drawList();
});
posedance.when("#pause", pause => {
  pause.onclick = () => ask("api/queue", {paused: !queue.paused}).then(posedance.lookNow);
  drawQueue();
});
posedance.when("#queue-chip", place => { place.onclick = () => posedance.tab("Jobs"); });
look();
}
