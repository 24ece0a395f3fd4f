// Driver, pose and character are parts of comparison.mp4, drawn on canvases; the result plays beside them in step.
"use strict";
{
const {element, part} = posedance;
const PULL = 0.1;  // how much faster or slower the other video runs while it is out of step

posedance.Player = class {
  constructor(job) {
    const base = `files/${part(job.name)}/`, whole = !job.files.includes("result.mp4");
    this.frame = 1 / job.video.fps;
    const best = job.files.includes("upscaled.mp4") ? "upscaled" : "result";
    this.main = element("video", {src: base + (whole ? "comparison.mp4" : `${best}.mp4`), playsInline: true,
      loop: true, preload: "auto", className: "pd-result", "aria-label": best});
    this.side = element("video", {src: `${base}comparison.mp4`, muted: true, playsInline: true, loop: true,
      preload: "auto"});
    this.panels = job.video.panels.filter(panel => whole || panel.name !== best).map(panel => ({...panel,
      canvas: element("canvas", {width: panel.width, height: job.video.height, role: "img", "aria-label": panel.name})}));
    const figures = this.panels.map(panel => element("figure", {}, panel.canvas, element("figcaption", {}, panel.name)));
    figures.forEach((figure, i) => { figure.style.flexGrow = this.panels[i].width; });
    const own = element("figure", {className: "pd-main", hidden: whole}, this.main, element("figcaption", {}, best));
    own.style.flexGrow = job.video.panels.at(-1).width;  // so that all are as high as each other
    figures.push(own);
    this.scrub = element("input", {type: "range", min: 0, max: 1, step: "any", value: 0, className: "pd-scrub",
      "aria-label": "time", oninput: () => { this.main.pause(); this.seek(Number(this.scrub.value)); }});
    this.play = element("button", {type: "button", className: "pd-button pd-play", "aria-label": "play",
      onclick: () => this.toggle()}, "▶");
    this.time = element("span", {className: "pd-time"});
    this.sound = element("button", {type: "button", className: "pd-button", onclick: () => {
      this.main.muted = !this.main.muted;
      this.sound.textContent = this.main.muted ? "Sound on" : "Sound off";
    }}, "Sound off");
    const speed = element("select", {"aria-label": "speed", onchange: () => { this.main.playbackRate = Number(speed.value); }},
      ...["0.25", "0.5", "1"].map(rate => element("option", {value: rate, selected: rate === "1"}, `${rate}×`)));
    this.place = element("div", {className: "pd-player", tabIndex: 0, onkeydown: event => this.key(event),
      "aria-label": "space plays, arrows go by a frame"}, element("div", {className: "pd-panels"}, ...figures),
      element("div", {className: "pd-row pd-controls"}, this.play, this.scrub, this.time, speed, this.sound));
    this.main.onloadedmetadata = () => { this.scrub.max = this.main.duration; this.tell(); };
    this.main.onplay = () => { this.side.play().catch(() => {}); this.play.textContent = "❚❚"; this.play.setAttribute("aria-label", "pause"); };
    this.main.onpause = () => { this.side.pause(); this.side.currentTime = this.main.currentTime; this.play.textContent = "▶"; this.play.setAttribute("aria-label", "play"); };
    this.main.onseeked = () => this.tell();
    this.side.onseeked = this.side.onloadeddata = () => this.paint();
    this.running = true;
    const step = () => {
      if (!this.running) return;
      this.keepStep();
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }
  key(event) {
    if (event.target.matches("input[type=number], select")) return;
    if (event.key === " " && !event.target.matches("button")) this.toggle();
    else if (event.key === "ArrowRight" && event.target !== this.scrub) this.seek(this.main.currentTime + this.frame);
    else if (event.key === "ArrowLeft" && event.target !== this.scrub) this.seek(this.main.currentTime - this.frame);
    else return;
    event.preventDefault();
  }
  toggle() {
    if (this.main.paused) this.main.play().catch(() => {});
    else this.main.pause();
  }
  seek(time) {
    const end = Math.max(0, (this.main.duration || 0) - this.frame / 2);
    this.main.currentTime = this.side.currentTime = Math.min(Math.max(0, time), end);
  }
  keepStep() {
    if (this.main.paused) return;
    const drift = this.side.currentTime - this.main.currentTime, far = Math.abs(drift);
    const jump = 0.5, rate = this.main.playbackRate;
    if (far > jump) this.side.currentTime = this.main.currentTime;
    else this.side.playbackRate = rate * (far > this.frame / 2 ? 1 - Math.sign(drift) * PULL : 1);
    if (this.side.paused) this.side.play().catch(() => {});
    this.paint();
    this.tell();
  }
  paint() {
    if (this.side.readyState < 2) return;
    for (const {canvas, left, width} of this.panels) {
      canvas.getContext("2d").drawImage(this.side, left, 0, width, canvas.height, 0, 0, width, canvas.height);
    }
  }
  tell() {
    this.scrub.value = this.main.currentTime;
    this.time.textContent = `${this.main.currentTime.toFixed(2)} / ${(this.main.duration || 0).toFixed(2)} s`;
    this.scrub.setAttribute("aria-valuetext", this.time.textContent);
  }
  close() {
    this.running = false;
    for (const video of [this.main, this.side]) {
      video.pause();
      video.removeAttribute("src");
      video.load();
    }
  }
};
}
