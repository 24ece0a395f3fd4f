// What all tabs share: asking the server, errors beside their fields, elements, and the fields that Gradio draws.
"use strict";
const posedance = window.posedance = {
  draft: {driving: null, character: null, like: null},
  values: {},
  order: ["model", "preset", "seed", "width", "height", "steps", "guidance_scale", "start", "duration", "stride",
    "person", "align", "fit", "character_prompt", "upscale", "accept_poses"],
  pending: [], jobs: [], viewers: new Map(),
};

posedance.element = function (tag, values = {}, ...content) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(values)) {
    if (name === "dataset") Object.assign(made.dataset, value);
    else if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...content.filter(each => each !== null && each !== undefined));
  return made;
};
// Children of a place by key: one whose text is as it was stays, with its focus; in one that is made anew the button
// that had the focus (`data-act`) gets it again. Rows are [key, text, make].
const texts = new WeakMap();
posedance.patch = function (place, rows) {
  const now = document.activeElement, held = place.contains(now) ? now.closest("[data-key]")?.dataset.key : null;
  const act = held && now.dataset.act, before = new Map([...place.children].map(each => [each.dataset.key, each]));
  const children = rows.map(([key, text, make]) => {
    const old = before.get(key);
    if (old && texts.get(old) === text) return old;
    const made = make();
    made.dataset.key = key;
    texts.set(made, text);
    return made;
  });
  for (const each of [...place.children]) if (!children.includes(each)) each.remove();
  children.forEach((each, i) => { if (place.children[i] !== each) place.insertBefore(each, place.children[i] || null); });
  if (!held || place.contains(document.activeElement)) return;
  const row = children.find(each => each.dataset.key === held), usable = "button:not(:disabled)";
  (row?.querySelector(`[data-act="${act}"]:not(:disabled)`) || row?.querySelector(usable))?.focus({preventScroll: true});
};
posedance.part = name => name.split("/").map(encodeURIComponent).join("/");

posedance.ask = async function (path, body, method) {
  const options = body === undefined ? {} : {
    method: method || "POST", body: JSON.stringify(body), headers: {"content-type": "application/json"}};
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw {error: "the server does not answer: is it still running?", field: ""};
  }
  const found = (answer.headers.get("content-type") || "").includes("json") ? await answer.json() : {};
  if (!answer.ok) throw {error: found.error || `the server answered ${answer.status}`, field: found.field || ""};
  return found;
};

// The line of an error, beside the field that causes it. What was said of other fields stays until `calm`.
posedance.complain = function (problem, otherwise = "run-error") {
  const places = [...document.querySelectorAll(".pd-error[data-field]")];
  const place = problem.field && places.find(each => each.dataset.field.split(" ").includes(problem.field))
    || document.getElementById(otherwise);
  if (!place) return;
  place.textContent = problem.error || String(problem);
  document.querySelector(`#f-${problem.field} input`)?.setAttribute("aria-invalid", "true");
  place.scrollIntoView({block: "nearest"});
};
posedance.calm = function () {
  document.querySelectorAll(".pd-error[data-field], #jobs-error").forEach(each => { each.textContent = ""; });
  document.querySelectorAll("[aria-invalid]").forEach(each => each.removeAttribute("aria-invalid"));
};

// Fields of Gradio: their values come with its events, and are set by a hidden button whose outputs they are.
posedance.read = function (listed, values) {
  posedance.order = listed.split(",");
  posedance.values = Object.fromEntries(posedance.order.map((name, i) => [name, values[i]]));
};
posedance.changed = function (listed, values) {
  posedance.read(listed, values);
  document.dispatchEvent(new CustomEvent("pd-changed"));
};
posedance.filled = () => posedance.pending;
posedance.fill = function (options) {
  posedance.values = {...posedance.values, ...options};
  posedance.pending = posedance.order.map(name => posedance.values[name] ?? null);
  document.querySelector("#fill")?.click();
};
posedance.options = () => Object.fromEntries(
  Object.entries(posedance.values).map(([name, value]) => [name, value === null ? "" : value]));
posedance.asked = () => ({...posedance.draft, options: posedance.options(),
  character: posedance.values.character_prompt ? null : posedance.draft.character});

posedance.tab = function (name) {
  const tabs = [...document.querySelectorAll("#tabs button[role=tab]")];
  tabs.find(each => each.textContent.trim() === name)?.click();
};

// Gradio draws a tab when it is first opened: `begin` runs once for each element that comes to be there.
const parts = [];
posedance.when = function (selector, begin) {
  parts.push([selector, begin, new WeakSet()]);
  look();
};
function look() {
  for (const [selector, begin, seen] of parts) {
    const found = document.querySelector(selector);
    if (found && !seen.has(found)) {
      seen.add(found);
      begin(found);
    }
  }
}
new MutationObserver(look).observe(document.documentElement, {childList: true, subtree: true});

// It is pressed by scripts alone.
posedance.when("#fill", button => {
  button.tabIndex = -1;
  button.setAttribute("aria-hidden", "true");
});

// What the fields hold before the first of them is changed.
posedance.when("#f-model input", input => {
  posedance.values = {model: input.value || "demo", preset: "default", seed: 0, width: null, height: null,
    steps: null, guidance_scale: null, start: 0, duration: null, stride: 2, person: null, align: "limbs",
    fit: "crop", character_prompt: null, upscale: null, accept_poses: false, ...posedance.values};
  setTimeout(() => posedance.fill({}), 300);  // Gradio shows a number that is not given as 0
});
