// One job: while it runs its stages and the preview of its latents, then the player, notes, files, and "again".
"use strict";
{
const {element, ask, part} = posedance;

posedance.words = function (shares) {
  if (!shares || !shares.stage) return "starting";
  return shares.total ? `${shares.stage} ${shares.done} of ${shares.total}` : shares.stage;
};
posedance.bar = function (shares) {
  const made = element("progress", {max: 100, "aria-label": `progress of ${shares?.stage || "the job"}`});
  if (shares && shares.total) made.value = Math.min(100, 100 * shares.done / shares.total);
  return made;
};

posedance.Viewer = class {
  constructor(place) {
    Object.assign(this, {place, name: null, text: "", player: null, preview: null, settled: false});
  }
  async show(name) {
    if (name !== this.name) this.clear();
    Object.assign(this, {name, text: "", settled: false});
    this.place.hidden = false;
    await this.look();
  }
  clear() {
    this.player?.close();
    this.player = this.preview = null;
    this.place.replaceChildren();
  }
  close() {
    this.clear();
    this.name = null;
    this.place.hidden = true;
    if (this.place.id === "viewer") history.replaceState(null, "", location.pathname);
    else localStorage.removeItem("pd-current");
  }
  async look() {
    const name = this.name;
    if (!name) return;
    const card = posedance.jobs.find(job => job.name === name);
    if (this.settled && (!card || card.state === this.settled)) return;
    let job;
    try {
      job = await ask(`api/job/${part(name)}`);
    } catch (problem) {
      if (!this.text) posedance.patch(this.place, [["gone", problem.error,
        () => element("p", {className: "pd-error"}, problem.error)]]);
      return;
    }
    const text = JSON.stringify(job);
    if (text === this.text || this.name !== name) return;
    this.text = text;
    this.settled = ["running", "waiting"].includes(job.state) ? false : job.state;
    this.draw(job);
  }
  // What did not change stays as it is: a number that is typed, a video that plays, the button that has the focus.
  draw(job) {
    const rows = [], works = ["running", "waiting"].includes(job.state);
    const row = (key, told, make) => rows.push([key, JSON.stringify(told), make]);
    row("head", [job.title, job.state], () => element("div", {className: "pd-row pd-head"}, element("h2", {}, job.title),
      element("span", {className: `pd-state pd-${job.state}`}, job.state), element("button", {type: "button",
        className: "pd-button", onclick: () => this.close(), "aria-label": "close", dataset: {act: "close"}}, "✕")));
    row("error", job.error, () => element("p", {className: "pd-error", role: "alert"}, job.error));
    if (job.reused.length) row("reused", job.reused, () => element("p", {className: "pd-reused"},
      `Taken over from the earlier job, not made again: ${job.reused.join(", ")}.`));
    if (works) row("progress", [job.state, job.shares, job.files.includes("preview.mp4")], () => this.progress(job));
    if (works || !job.video) {
      this.player?.close();
      this.player = null;
    } else row("player", [job.video, job.changed], () => {
      this.player?.close();
      this.player = new posedance.Player(job);
      return this.player.place;
    });
    if (["failed", "stopped"].includes(job.state)) row("go on", job.state, () => this.goOn(job));
    if (job.quality) row("quality", job.quality, () => element("p", {className: "pd-quality"}, job.quality));
    const notes = job.notes.filter(note => note.text !== job.quality);
    if (notes.length) row("notes", notes, () => element("ul", {className: "pd-notes"},
      ...notes.map(note => element("li", {}, `${note.step}: ${note.text}`))));
    if (job.state !== "waiting" && job.steps.length) row("again", [job.name, job.options], () => this.again(job));
    const files = job.files.filter(file => file !== "preview.mp4");
    if (files.length) row("files", files, () => element("p", {className: "pd-files"}, "Download: ", ...files.flatMap(file => [
      element("a", {href: `files/${part(job.name)}/${file}`, download: `${job.name.replace("/", "-")}-${file}`}, file), " "])));
    if (job.stages.length) row("stages", job.stages, () => element("p", {className: "pd-facts"},
      `Last run: ${job.stages.map(stage => `${stage.stage} ${stage.time}`).join(", ")}`));
    const open = this.place.querySelector("details")?.open;
    row("log", [job.config, job.log], () => element("details", {open: Boolean(open)},
      element("summary", {dataset: {act: "log"}}, "Config and log"), element("pre", {}, job.config),
      element("pre", {}, job.log.join("\n"))));
    posedance.patch(this.place, rows);
  }
  goOn(job) {
    const said = element("span", {className: "pd-error", role: "alert"});
    return element("div", {className: "pd-row"}, element("button", {type: "button", className: "pd-button pd-primary",
      onclick: async () => {
        try {
          await ask(`api/resume/${part(job.name)}`, {});
          await this.show(job.name);
        } catch (problem) { said.textContent = problem.error; }
      }}, "Go on from there"), said);
  }
  progress(job) {
    const place = element("div", {className: "pd-progress"}, posedance.bar(job.shares),
      element("p", {"aria-live": "polite"}, job.state === "waiting" ? "waits in the queue" : posedance.words(job.shares)),
      element("button", {type: "button", className: "pd-button", dataset: {act: "cancel"},
        onclick: () => posedance.cancel(job.name)}, "Cancel"),
      element("span", {className: "pd-facts"}, "what is finished stays"));
    if (job.state === "running" && job.files.includes("preview.mp4")) {
      this.preview ||= element("video", {className: "pd-preview", muted: true, loop: true, autoplay: true,
        playsInline: true, "aria-label": "preview of the latents"});
      const count = String(job.shares.done);
      if (this.preview.dataset.count !== count) {
        this.preview.dataset.count = count;
        this.preview.src = `files/${part(job.name)}/preview.mp4?${count}`;
        this.preview.play().catch(() => {});
      }
      place.append(this.preview);
    }
    return place;
  }
  again(job) {
    const seed = element("input", {type: "number", min: 0, value: Number(job.options.seed || 0) + 1});
    const preset = element("select", {}, ...["preview", "default", "best"].map(name =>
      element("option", {value: name, selected: name === (job.options.preset || "default")}, name)));
    const said = element("span", {className: "pd-facts", role: "status"});
    const run = element("button", {type: "button", className: "pd-button pd-primary", onclick: async () => {
      said.textContent = "";
      try {
        const begun = await ask("api/run", {like: job.name, options: {seed: Number(seed.value), preset: preset.value}});
        await posedance.lookNow();
        await this.show(begun.name);
      } catch (problem) { said.textContent = problem.error; }
    }}, "Again");
    const take = element("button", {type: "button", className: "pd-button",
      onclick: () => posedance.takeSettings(job.name)}, "Take these settings");
    return element("div", {className: "pd-row pd-again"}, element("label", {}, "Again with seed ", seed),
      element("label", {}, "preset ", preset), run, take, said);
  }
};
posedance.cancel = async function (name) {
  try {
    await ask(`api/cancel/${part(name)}`, {});
    await posedance.lookNow();
  } catch (problem) { posedance.complain(problem, "jobs-error"); }
};
posedance.viewerAt = function (place) {
  if (!posedance.viewers.has(place)) posedance.viewers.set(place, new posedance.Viewer(place));
  return posedance.viewers.get(place);
};
posedance.show = function (name) {
  history.replaceState(null, "", `#job=${encodeURIComponent(name)}`);
  const place = document.getElementById("viewer");
  if (place) {
    posedance.viewerAt(place).show(name);
    place.scrollIntoView({block: "start"});
  } else {
    posedance.wantedJob = name;
  }
};
posedance.when("#viewer", place => {
  const name = posedance.wantedJob;
  posedance.wantedJob = null;
  posedance.viewerAt(place);
  if (name) posedance.show(name);
});
posedance.when("#current", place => {
  const name = localStorage.getItem("pd-current");
  if (name) posedance.viewerAt(place).show(name);
});
posedance.when("#tabs button[role=tab]", () => {
  const wanted = new URLSearchParams(location.hash.slice(1)).get("job");
  if (wanted) setTimeout(() => { posedance.tab("Jobs"); posedance.show(wanted); }, 0);
});
}
