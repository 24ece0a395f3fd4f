// The tab Batch: many videos begun from what is here, the table of stages, videos as they finish, one tried again.
"use strict";
{
const {element, ask, part} = posedance;
const LOOK_MS = 2000, STAGES = ["workers", "queued", "running", "done", "failed"];
let text = "", name = null, limit = 60;

function checks() {
  const place = document.getElementById("batch-videos");
  if (!place || !posedance.uploads) return;
  for (const [id, kind] of [["batch-videos", "video"], ["batch-pictures", "picture"]]) {
    const here = posedance.uploads().filter(each => each.kind === kind), list = document.getElementById(id);
    const names = here.map(each => each.identity).join() || "none";
    if (list.dataset.names === names) continue;  // what is ticked stays
    list.dataset.names = names;
    list.replaceChildren(...(here.length ? here.map(each => element("label", {className: "pd-check"},
      element("input", {type: "checkbox", value: each.identity}),
      element("img", {src: `api/upload-thumb/${each.identity}`, alt: "", loading: "lazy"}), each.title))
      : [element("p", {className: "pd-facts"}, "drop files in at the tab Animate first")]));
  }
}
async function run() {
  const error = document.getElementById("batch-error"), file = document.getElementById("batch-manifest").files[0];
  const ticked = id => [...document.querySelectorAll(`#${id} input:checked`)].map(each => each.value);
  error.textContent = "";
  const {person, start, duration, ...options} = posedance.options();
  try {
    const begun = await ask("api/batch", {driving: ticked("batch-videos"), character: ticked("batch-pictures"), options,
      manifest: file ? await file.text() : null, executor: document.getElementById("batch-executor").value});
    posedance.wantedBatch = begun.name;
    await posedance.lookNow();
    choices();
  } catch (problem) { error.textContent = problem.error; }
}
function choices() {
  const choose = document.getElementById("batch-choose");
  if (!choose) return;
  const batches = posedance.jobs.filter(job => job.kind === "batch" || (job.name === posedance.wantedBatch));
  const value = posedance.wantedBatch || choose.value || batches[0]?.name || "";
  posedance.wantedBatch = batches.some(job => job.name === value) ? null : posedance.wantedBatch;
  choose.replaceChildren(...batches.map(job => element("option", {value: job.name, selected: job.name === value}, `${job.title} (${job.state})`)));
  name = choose.value || null;
}
async function look() {
  const place = document.getElementById("batch-view");
  if (place && name && place.offsetParent !== undefined && !document.hidden) {
    try {
      const found = await ask(`api/batch/${part(name)}`), now = JSON.stringify(found);
      if (now !== text) { text = now; draw(place, found); }
    } catch (problem) {
      place.hidden = false;
      place.replaceChildren(element("p", {className: "pd-facts"}, problem.error.includes("not the output folder") ? "not begun yet" : problem.error));
    }
  }
  setTimeout(look, LOOK_MS);
}
function draw(place, {title, report, items}) {
  place.hidden = false;
  const {videos, running} = report;
  const rows = report.runs.flatMap(run => Object.entries(run.stages).map(([stage, counts]) =>
    element("tr", {}, element("th", {scope: "row"}, stage), ...STAGES.map(key => element("td", {}, String(counts[key] || 0))))));
  const table = element("table", {className: "pd-table"}, element("thead", {}, element("tr", {}, element("th", {}, "stage"),
    ...STAGES.map(key => element("th", {scope: "col"}, key)))), element("tbody", {}, ...rows));
  const order = {quarantined: 0, done: 1, waiting: 2};
  const sorted = [...items].sort((a, b) => order[a.status] - order[b.status]);
  const list = element("ul", {className: "pd-grid"}, ...sorted.slice(0, limit).map(item => card(item)));
  place.replaceChildren(element("h2", {}, title), element("p", {role: "status"},
    `${videos.done} of ${videos.all} done, ${videos.quarantined} given up, ${videos.waiting} waiting; ${running ? "running" : "not running"}`),
    element("progress", {max: videos.all || 1, value: videos.done, "aria-label": "videos done"}), table, list);
  if (sorted.length > limit) place.append(element("button", {type: "button", className: "pd-button", onclick: () => { limit += 60; text = ""; }}, "More"));
}
function card(item) {
  const whole = `${name}/${item.name}`, rows = [];
  if (item.status === "done") rows.push(element("button", {type: "button", className: "pd-open", onclick: () => { posedance.tab("Jobs"); posedance.show(whole); }},
    element("img", {src: `api/thumb/${part(whole)}`, alt: "", loading: "lazy"}), element("span", {className: "pd-title"}, item.title)));
  else rows.push(element("span", {className: "pd-title"}, item.title));
  rows.push(element("span", {className: `pd-state pd-${item.status === "quarantined" ? "failed" : item.status}`}, item.status === "quarantined" ? "given up" : item.status));
  if (item.error) {
    const said = element("p", {className: "pd-error"}, `${item.stage}, after ${item.attempts} attempts: ${item.error}`);
    rows.push(said, element("button", {type: "button", className: "pd-button", "aria-label": `try ${item.title} again`, onclick: async () => {
      try { await ask(`api/retry/${part(name)}/${part(item.name)}`, {}); text = ""; await posedance.lookNow(); } catch (problem) { said.textContent = problem.error; }
    }}, "Try again"));
  }
  return element("li", {className: "pd-card pd-job", dataset: {item: item.name}}, ...rows);
}
posedance.when("#batch-run", button => {
  button.onclick = run;
  document.getElementById("batch-choose").onchange = event => { name = event.target.value; text = ""; };
  checks();
  choices();
});
document.addEventListener("pd-uploads", checks);
document.addEventListener("pd-jobs", choices);
document.addEventListener("pd-batch", () => { text = ""; choices(); checks(); });
posedance.when("#tabs", tabs => { tabs.addEventListener("click", checks); });
look();
}
