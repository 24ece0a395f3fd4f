"""The parts of the page that its scripts fill: plain HTML with labels and ids."""

# ruff: noqa: E501 (HTML)

HEADER = """<header class="pd-header"><h1>posedance</h1><p>A driving video and one picture of a character go in;
the character dancing that dance comes out.</p><button id="queue-chip" type="button" class="pd-chip"
aria-live="polite">nothing runs</button></header>"""

ANIMATE = """<div class="pd-inputs">
<section class="pd-card" id="driving" aria-labelledby="driving-title">
 <h2 id="driving-title">Driving video</h2>
 <div class="pd-drop" data-kind="video"><label for="driving-file">Drop a video of the dance here, or choose one
  </label><input id="driving-file" type="file" accept="video/*,image/gif,image/webp" multiple>
  <div class="pd-row"><button type="button" class="pd-button" data-do="camera">Camera</button>
  <button type="button" class="pd-button" data-do="folder">Folder</button>
  <input type="file" class="pd-folder" webkitdirectory multiple hidden aria-label="Folder of videos"></div></div>
 <div class="pd-gallery" role="listbox" aria-label="Videos that are here"></div>
 <div class="pd-stage" hidden><div class="pd-people"><img draggable="false" alt="A frame of the dance; click who is to be followed">
  </div><div class="pd-strip" role="group" aria-label="The cut"><img draggable="false" alt="Frames of the whole video">
  <div class="pd-cut"></div><input type="range" class="pd-from" min="0" max="1" step="any" value="0"
  aria-label="Start of the cut"><input type="range" class="pd-to" min="0" max="1" step="any" value="1"
  aria-label="End of the cut"></div><p class="pd-facts"></p></div>
 <p class="pd-error" role="alert" data-field="driving start duration stride person"></p>
</section>
<section class="pd-card" id="character" aria-labelledby="character-title">
 <h2 id="character-title">Character</h2>
 <div class="pd-drop" data-kind="picture"><label for="character-file">Drop a picture of the character here, or
  choose one</label><input id="character-file" type="file" accept="image/*,.heic,.avif" multiple>
  <div class="pd-row"><button type="button" class="pd-button" data-do="camera">Camera</button></div></div>
 <div class="pd-gallery" role="listbox" aria-label="Pictures that are here"></div>
 <div class="pd-stage" hidden><img alt="The character"><p class="pd-facts"></p></div>
 <p class="pd-error" role="alert" data-field="character"></p>
</section>
<section class="pd-card" id="fitted" aria-labelledby="fitted-title" aria-live="polite">
 <h2 id="fitted-title">How it will stand</h2>
 <div class="pd-row" id="paint-box" hidden><button type="button" class="pd-button pd-primary" id="paint">Paint the
  character now</button><span class="pd-facts">as the words say, in a pose of the dance</span></div>
 <div class="pd-empty" id="example-box"><p>New here? Two drawn dancers, ready to run: about a minute.</p>
  <button type="button" class="pd-button pd-primary" id="example">Take the example</button></div>
 <div class="pd-fit" hidden><img id="fit-picture" alt="The fitted pose over the character">
  <video id="animatic" controls loop muted playsinline hidden
  aria-label="Animatic: the fitted pose, and the character as a figure of paper"></video></div>
 <p class="pd-facts" id="fit-facts"></p><p class="pd-error" role="alert" data-field="align fit"></p>
</section></div>
<p class="pd-like" id="like" hidden></p>"""

RESULT_OF_RUN = """<p class="pd-error" role="alert" id="run-error"
data-field="model preset seed width height steps guidance_scale character_prompt upscale"></p><dl id="plan-lines" class="pd-plan"
aria-live="polite"></dl>"""

CURRENT = (
    """<section id="current" class="pd-viewer" hidden aria-label="The job that was begun last"></section>"""
)

JOBS = """<section id="queue" class="pd-card" aria-labelledby="queue-title"><div class="pd-row">
<h2 id="queue-title">Queue</h2><button type="button" class="pd-button" id="pause" aria-pressed="false">Pause
</button></div><ol id="queue-list"></ol></section>
<section id="viewer" class="pd-viewer" hidden aria-label="One job"></section>
<div class="pd-row pd-filter"><label>Find <input id="job-find" type="search"></label>
<label>State <select id="job-state"><option value="">all</option><option>running</option><option>waiting</option>
<option>done</option><option>failed</option><option>stopped</option></select></label>
<label class="pd-button pd-settings-drop">Settings from a result (mp4 or config.yaml)
<input id="settings-file" type="file" accept=".mp4,.mkv,.yaml"></label><span id="job-count"></span></div>
<p class="pd-error" role="alert" id="jobs-error"></p>
<ul id="job-list" class="pd-grid"></ul><button type="button" class="pd-button" id="job-more" hidden>More</button>"""

BATCH = """<section class="pd-card" aria-labelledby="batch-title"><h2 id="batch-title">Many videos</h2>
<p>Every chosen dance with every chosen character, or the rows of a manifest (CSV with the columns driving and
reference, by the names of files that are here). Options are those of the tab Animate.</p>
<div class="pd-two"><fieldset><legend>Dances</legend><div id="batch-videos" class="pd-checks"></div></fieldset>
<fieldset><legend>Characters</legend><div id="batch-pictures" class="pd-checks"></div></fieldset></div>
<div class="pd-row"><label>Manifest <input id="batch-manifest" type="file" accept=".csv"></label>
<label>Runs on <select id="batch-executor"><option value="ray">all workers of this machine</option>
<option value="local">one process</option></select></label>
<button type="button" class="pd-button pd-primary" id="batch-run">Run the batch</button></div>
<p class="pd-error" role="alert" id="batch-error"></p></section>
<div class="pd-row"><label>Batch <select id="batch-choose"></select></label></div>
<section id="batch-view" class="pd-card" hidden aria-live="polite"></section>"""

CURATE = """<div class="pd-row"><label>Curation <select id="curate-choose"></select></label>
<span class="pd-facts">J keeps, K rejects, F forgets what was said; arrows move</span></div>
<p class="pd-error" role="alert" id="curate-error"></p>
<div id="curate-view" hidden><div class="pd-row"><strong id="curate-counts" aria-live="polite"></strong>
<label>Show <select id="curate-show"><option value="">all</option><option value="kept">kept</option>
<option value="rejected">rejected</option><option value="said">what I said</option></select></label>
<button type="button" class="pd-button" id="curate-review">Apply what I said</button>
<button type="button" class="pd-button" id="curate-decide">Run with these bounds</button></div>
<div class="pd-curate"><aside id="curate-filters" aria-label="Filters"></aside>
<div id="curate-clips" role="listbox" aria-label="Clips" tabindex="0"></div></div>
<p class="pd-facts" id="curate-said"></p></div>"""
