// The tab Curation: every clip with its scores. Sliders decide anew at once; J keeps, K rejects, F forgets.
"use strict";
{
const {element, ask, part} = posedance;
const SHOWN = 60, SAVED_MS = 400;
let data = null, at = 0, saving = null, visible = [];

function choices() {
  const choose = document.getElementById("curate-choose");
  if (!choose) return;
  const here = posedance.jobs.filter(job => job.kind === "curation");
  const value = posedance.wantedCuration || choose.value || here[0]?.name || "";
  const names = here.map(job => job.name).join();
  if (choose.dataset.names !== names) {
    choose.dataset.names = names;
    choose.replaceChildren(...here.map(job => element("option", {value: job.name, selected: job.name === value}, job.name)));
  }
  choose.value = value;
  posedance.wantedCuration = null;
  if (value && data?.name !== value) open(value);
}
async function open(name) {
  const error = document.getElementById("curate-error");
  error.textContent = "";
  try { data = await ask(`api/curation/${part(name)}`); } catch (problem) { error.textContent = problem.error; return; }
  data.bounds = Object.fromEntries(data.filters.map(each => [each.name, {at_least: each.at_least, at_most: each.at_most}]));
  at = 0;
  document.getElementById("curate-view").hidden = false;
  drawFilters();
  drawClips();
}
// The first filter, in their order, whose bounds the score lies outside: the same rule as the command line's.
function refusal(clip) {
  for (const {name} of data.filters) {
    const value = clip.scores[name], {at_least: least, at_most: most} = data.bounds[name];
    if (value === undefined) continue;
    if ((least !== null && !(value >= least)) || (most !== null && !(value <= most))) return name;
  }
  return null;
}
function verdict(clip) {
  if (clip.said) return [clip.said, clip.said === "rejected" ? "you" : null];
  const reason = refusal(clip);
  if (reason) return ["rejected", reason];
  return clip.status === "duplicate" ? ["duplicate", "a copy"] : ["kept", null];
}
function drawFilters() {
  const place = document.getElementById("curate-filters");
  place.replaceChildren(...data.filters.flatMap(filter => {
    const values = data.clips.map(clip => clip.scores[filter.name]).filter(value => value !== undefined && value > -1e29);
    if (!values.length) return [];
    return [element("fieldset", {}, element("legend", {title: filter.says}, filter.name), histogram(values),
      ...["at_least", "at_most"].filter(side => filter[side] !== null).map(side => slider(filter, side, values)),
      element("p", {className: "pd-facts"}, filter.says))];
  }));
}
function slider(filter, side, values) {
  const low = Math.min(...values, filter[side]), high = Math.max(...values, filter[side]);
  const told = element("output", {}, String(Number(filter[side].toPrecision(4))));
  const input = element("input", {type: "range", min: low, max: high === low ? low + 1 : high, step: "any", value: filter[side],
    "aria-label": `${filter.name} ${side.replace("_", " ")}`, oninput: () => {
      data.bounds[filter.name][side] = Number(input.value);
      told.textContent = String(Number(Number(input.value).toPrecision(4)));
      drawClips();
    }});
  return element("label", {className: "pd-slider"}, side.replace("_", " "), input, told);
}
function histogram(values) {
  const bins = 24, low = Math.min(...values), high = Math.max(...values), counts = Array(bins).fill(0);
  for (const value of values) counts[Math.min(bins - 1, Math.floor(bins * (value - low) / (high - low || 1)))] += 1;
  const most = Math.max(...counts);
  return element("div", {className: "pd-histogram", "aria-hidden": "true"}, ...counts.map(count => {
    const bar = element("span");
    bar.style.height = `${100 * count / most}%`;
    return bar;
  }));
}
function drawClips() {
  const show = document.getElementById("curate-show").value, counts = {kept: 0, rejected: 0, duplicate: 0};
  const judged = data.clips.map((clip, i) => {
    const [status, reason] = verdict(clip);
    counts[status] += 1;
    return {clip, i, status, reason};
  });
  document.getElementById("curate-counts").textContent = `${counts.kept} kept, ${counts.rejected} rejected, ${counts.duplicate} duplicates of ${data.clips.length}`;
  visible = judged.filter(each => !show || (show === "said" ? each.clip.said : each.status === show));
  at = Math.min(at, Math.max(0, visible.length - 1));
  const from = Math.max(0, Math.min(at - Math.floor(SHOWN / 2), visible.length - SHOWN));
  const place = document.getElementById("curate-clips");
  place.replaceChildren(...visible.slice(from, from + SHOWN).map((each, k) => tile(each, from + k)));
  mark();
}
function tile({clip, status, reason}, index) {
  const score = reason && clip.scores[reason] !== undefined ? ` ${Number(clip.scores[reason].toPrecision(3))}` : "";
  return element("div", {className: `pd-clip pd-${status}`, role: "option", id: `clip-${index}`, dataset: {index},
    onclick: () => { at = index; mark(); document.getElementById("curate-clips").focus({preventScroll: true}); }},
    element("img", {src: `api/curation-strip/${part(data.name)}/${clip.strip}`, alt: "", loading: "lazy"}),
    element("p", {}, element("strong", {}, clip.said ? `${status} by you` : status), reason && !clip.said ? `: ${reason}${score}` : "",
      ` · ${clip.source}, ${clip.seconds.map(each => each.toFixed(1)).join(" to ")} s`));
}
function mark() {
  const place = document.getElementById("curate-clips");
  place.querySelectorAll("[aria-selected=true]").forEach(each => each.setAttribute("aria-selected", "false"));
  const now = document.getElementById(`clip-${at}`);
  if (!now) return;
  now.setAttribute("aria-selected", "true");
  place.setAttribute("aria-activedescendant", now.id);
  now.scrollIntoView({block: "nearest"});
}
function say(status) {
  const now = visible[at];
  if (!now) return;
  const before = visible.length;
  now.clip.said = status;
  const place = document.getElementById("curate-show").value;
  drawClips();
  if (visible.length === before || !place) at = Math.min(at + 1, visible.length - 1);
  drawClips();
  clearTimeout(saving);
  saving = setTimeout(save, SAVED_MS);
}
async function save() {
  clearTimeout(saving);
  const rows = data.clips.filter(clip => clip.said).map(clip => ({source: clip.source, start: clip.start, status: clip.said}));
  try {
    const {command} = await ask(`api/curation/${part(data.name)}/say`, {rows});
    document.getElementById("curate-said").textContent = `${rows.length} said, kept for: ${command}`;
  } catch (problem) { document.getElementById("curate-error").textContent = problem.error; }
}
async function begin(what, body) {
  const error = document.getElementById("curate-error");
  error.textContent = "";
  try {
    if (what === "review") await save();
    await ask(`api/curation/${part(data.name)}/${what}`, body);
    document.getElementById("curate-said").textContent = "begun: see the queue in the tab Jobs";
    posedance.lookNow();
  } catch (problem) { error.textContent = problem.error; }
}
document.addEventListener("keydown", event => {
  const place = document.getElementById("curate-clips");
  if (!data || !place || place.offsetParent === null || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches?.("input:not([type=range]), select, textarea")) return;
  const key = event.key.toLowerCase();
  if (key === "j") say("kept");
  else if (key === "k") say("rejected");
  else if (key === "f") say(null);
  else if (!event.target.matches?.("input") && (key === "arrowdown" || key === "arrowright")) { at = Math.min(at + 1, visible.length - 1); drawClips(); }
  else if (!event.target.matches?.("input") && (key === "arrowup" || key === "arrowleft")) { at = Math.max(at - 1, 0); drawClips(); }
  else return;
  event.preventDefault();
});
posedance.when("#curate-choose", choose => {
  choose.onchange = () => open(choose.value);
  document.getElementById("curate-show").onchange = () => { at = 0; drawClips(); };
  document.getElementById("curate-review").onclick = () => begin("review", {});
  document.getElementById("curate-decide").onclick = () => begin("decide", {bounds: data.bounds});
  choices();
});
document.addEventListener("pd-jobs", choices);
document.addEventListener("pd-curation", choices);
}
