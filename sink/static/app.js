// What moves on the pages: uploads, the figures of /events, and a calculation tried. Without it they list and download.
"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const number = (value) => (value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en-US"));
  const path = (name) => name.split("/").map(encodeURIComponent).join("/");
  const size = (bytes) => {
    let unit = 0;
    const units = ["B", "KB", "MB", "GB", "TB"];
    while (bytes >= 999.5 && unit < units.length - 1) { bytes /= 1000; unit += 1; }
    return `${unit && bytes < 99.95 ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`;
  };
  const duration = (seconds) => {
    if (seconds < 90) return `${Math.round(seconds)} s`;
    const minutes = Math.round(seconds / 60);
    return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  };
  const tell = (name) => document.body.dispatchEvent(new CustomEvent(name));
  const set = (node, text) => { if (node && node.textContent !== text) node.textContent = text; };

  // ---- the token, where the reader wants one: kept for as long as the tab is open
  const guarded = document.body.dataset.guarded === "yes";
  const token = () => sessionStorage.getItem("millstream-token");
  const headers = () => (token() ? { Authorization: `Bearer ${token()}` } : {});
  const askForToken = () => { const box = $("#token"); if (box) { box.hidden = false; $("#token-text").focus(); } };
  if (guarded && !token() && $("#token")) $("#token").hidden = false;
  document.addEventListener("click", (event) => {
    if (event.target.id !== "token-use") return;
    sessionStorage.setItem("millstream-token", $("#token-text").value.trim());
    $("#token").hidden = true;
    tell("millstream:token");
  });

  // ---- a refusal as the page of a file has it (macros.html): paragraphs, code in backticks, TOML
  const prose = (text) => {
    const box = Object.assign(document.createElement("div"), { className: "bad" });
    for (const part of text.split("\n\n").map((part) => part.replace(/^ +/gm, ""))) {
      const toml = part.startsWith("[");
      const node = box.appendChild(document.createElement(toml ? "pre" : "p"));
      if (toml) node.tabIndex = 0;
      (toml ? ["", part] : part.split("`")).forEach((piece, at) => node.append(at % 2 ? Object.assign(document.createElement("code"), { textContent: piece }) : piece));
    }
    return box;
  };

  // ---- uploads
  const uploads = $("#uploads");
  const waiting = [];
  let busy = 0;
  const upload = (file) => {
    const line = document.createElement("li");
    const name = Object.assign(document.createElement("span"), { className: "name", textContent: file.name });
    const bar = Object.assign(document.createElement("progress"), { className: "bar", max: 1, value: 0 });
    bar.setAttribute("aria-label", `Upload of ${file.name}`);
    const said = Object.assign(document.createElement("span"), { className: "said", textContent: "waiting" });
    line.append(name, bar, said);
    uploads.prepend(line);
    waiting.push({ file, line, name, bar, said });
    next();
  };
  const next = () => {
    if (busy >= 3 || !waiting.length) return;
    busy += 1;
    send(waiting.shift());
  };
  const send = (one) => {
    const request = new XMLHttpRequest();
    const began = performance.now();
    const over = (problem) => {
      busy -= 1;
      one.bar.hidden = true;
      if (problem) {
        set(one.said, "not taken");
        one.line.append(prose(problem));
      } else {
        set(one.said, `${size(one.file.size)} uploaded`);
        const link = Object.assign(document.createElement("a"), { href: `/files/${path(JSON.parse(request.responseText).name)}`, textContent: one.file.name });
        one.name.replaceChildren(link);
        tell("millstream:files");
      }
      next();
    };
    request.upload.addEventListener("progress", (event) => {
      if (!event.lengthComputable) return;
      one.bar.value = event.loaded / event.total;
      const rate = event.loaded / ((performance.now() - began) / 1000);
      set(one.said, event.loaded < event.total ? `${Math.round((100 * event.loaded) / event.total)} %, ${size(rate)}/s` : "being stored");
    });
    request.addEventListener("load", () => {
      if (request.status === 201) return over(null);
      let detail = `the reader answered ${request.status}`;
      try { detail = JSON.parse(request.responseText).detail; } catch { /* it wasn't the reader that answered */ }
      if (request.status === 401) askForToken();
      return over(detail);
    });
    request.addEventListener("error", () => over("the connection broke: nothing was kept, drop it again"));
    request.open("PUT", `/uploads/${path(one.file.name)}`);
    for (const [header, value] of Object.entries(headers())) request.setRequestHeader(header, value);
    request.send(one.file);
  };
  if (uploads) {
    const drop = $("#drop");
    $("#pick").addEventListener("change", (event) => { [...event.target.files].forEach(upload); event.target.value = ""; });
    let inside = 0;
    document.addEventListener("dragenter", (event) => { if (event.dataTransfer?.types.includes("Files")) { inside += 1; drop.classList.add("over"); } });
    document.addEventListener("dragleave", () => { inside = Math.max(0, inside - 1); if (!inside) drop.classList.remove("over"); });
    document.addEventListener("dragover", (event) => event.preventDefault());
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      inside = 0;
      drop.classList.remove("over");
      [...event.dataTransfer.files].forEach(upload);
    });
  }

  // ---- live figures
  const live = $("#live");
  const say = (state, words) => { live.hidden = false; live.dataset.live = state; set($(".words", live), words); };
  const unknown = () => { // whoever is at work now, nobody tells
    for (const service of document.querySelectorAll("#services .service")) {
      service.className = "service unknown";
      service.title = "unknown: the reader doesn't answer";
    }
    for (const rate of document.querySelectorAll("#stream [data-rate]")) { set(rate, "–"); rate.closest("li").classList.remove("moving"); }
  };
  let seen = null;
  const list = (picture) => {
    const total = { capture: 0, compute: 0, store: 0 };
    for (const job of picture.jobs) {
      for (const stage of Object.keys(total)) total[stage] += job.rows_per_second[stage] || 0;
      const row = document.querySelector(`tr[data-pending][data-name="${CSS.escape(job.name)}"]`);
      if (!row) continue;
      const expected = job.rows_total ?? job.rows_expected;
      const done = ((job.rows_captured || 0) + (job.rows_computed || 0) + (job.rows_stored || 0)) / 3;
      const chip = $(".chip", row);
      if (["capturing", "computing"].includes(job.state)) { set(chip, job.state); chip.className = "chip moving"; }
      const bar = $("progress", row);
      if (bar && expected) bar.value = Math.min(1, done / expected);
      set($("[data-rows]", row), number(job.rows_total ?? job.rows_captured));
      if (job.rows_rejected !== null) { const cell = $("[data-rejected]", row); set(cell, number(job.rows_rejected)); cell.classList.toggle("some", job.rows_rejected > 0); }
      if (job.waits_for) set($("[data-also]", row), job.waits_for);
      else if (job.eta_seconds !== null) set($("[data-also]", row), job.eta_seconds ? `${duration(job.eta_seconds)} left` : "");
    }
    for (const item of document.querySelectorAll("#stream li")) {
      const rate = total[item.dataset.stage];
      set($("[data-rate]", item), rate ? number(rate) : "–");
      item.classList.toggle("moving", rate > 0);
    }
    const services = $("#services");
    if (services) {
      services.replaceChildren(...picture.processes.map((process) => Object.assign(document.createElement("span"), {
        className: process.waits.length ? "service waits" : "service",
        textContent: process.stage,
        title: process.waits.join("; ") || (process.rows_per_second ? `${number(process.rows_per_second)} rows/s` : "at work"),
      })));
    }
  };
  const values = { capture: [], compute: [], store: [] };
  const FEWEST = 30; // samples that a picture is wide, at least, as in http_spark.py
  const draw = (figure) => {
    const samples = Number(figure.dataset.samples);
    const top = Math.max(0, ...Object.values(values).flat());
    for (const [stage, rates] of Object.entries(values)) {
      const step = 600 / (Math.max(FEWEST, Math.min(samples, rates.length)) - 1);
      const start = 600 - step * (rates.length - 1);
      $(`polyline.${stage}`, figure).setAttribute("points", rates.map((rate, at) => `${(start + step * at).toFixed(1)},${(92 - 86 * (top ? rate / top : 0)).toFixed(1)}`).join(" "));
    }
    set($("[data-top]", figure), number(top));
  };
  const PENDING = ["uploaded", "capturing", "computing"];
  const QUIET = 5000; // milliseconds without a word of a file's job after which its page asks S3 again
  let heard = Date.now();
  const file = (picture) => {
    const page = $("#file");
    const job = picture.jobs.find((one) => one.file_id === page.dataset.fileId);
    if (job) heard = Date.now();
    if (!job) {
      if (picture.jobs.some((one) => one.name === page.dataset.name)) tell("millstream:file");
      return;
    }
    if (["published", "failed", "cancelled", "superseded"].includes(job.state)) {
      if (page.dataset.state !== job.state) tell("millstream:file");
      return;
    }
    if (!PENDING.includes(page.dataset.state)) return; // S3 knew before the stages said so
    const expected = job.rows_total ?? job.rows_expected;
    for (const [stage, done] of [["capture", job.rows_captured], ["compute", job.rows_computed], ["store", job.rows_stored]]) {
      const item = $(`.flow [data-stage="${stage}"]`);
      if (!item) return;
      set($("[data-done]", item), number(done));
      set($("[data-rate]", item), job.rows_per_second[stage] ? ` · ${number(job.rows_per_second[stage])}/s` : "");
      if (expected) $("progress", item).value = Math.min(1, (done || 0) / expected);
      item.className = expected && done >= expected ? "full" : done ? "begun" : "not-yet";
    }
    if (job.eta_seconds !== null) set($("#eta"), job.eta_seconds ? `${duration(job.eta_seconds)} left` : "about to be published");
    $("#waits").hidden = !job.waits_for;
    if (job.waits_for) set($("#waits span"), `${job.waits_for[0].toUpperCase()}${job.waits_for.slice(1)}.`);
    const figure = $("#spark");
    for (const stage of Object.keys(values)) values[stage] = [...values[stage], job.rows_per_second[stage] || 0].slice(-Number(figure.dataset.samples));
    if (values.store.length > 1) { figure.hidden = false; draw(figure); }
  };
  const trouble = (text) => {
    const note = $("#trouble");
    note.hidden = !text;
    set($("[data-trouble]", note), text || "");
  };
  const take = (picture) => {
    trouble(picture.settings_trouble);
    if ($("#list")) list(picture);
    if ($("#file")) file(picture);
    if (seen !== null && seen !== picture.files) { tell("millstream:files"); if ($("#file")) tell("millstream:file"); }
    seen = picture.files;
  };
  const begin = () => { const figure = $("#spark"); if (figure) Object.assign(values, { capture: [], compute: [], store: [] }, JSON.parse(figure.dataset.values)); };
  if (live && ($("#list") || $("#file"))) {
    begin();
    document.body.addEventListener("htmx:afterSettle", (event) => { if ($("#file", event.target.parentNode || document)) begin(); });
    let source;
    const listen = () => {
      source = new EventSource("/events");
      source.onopen = () => say("on", "live");
      source.onerror = () => {
        say("lost", "reconnecting");
        unknown();
        if (source.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
      };
      source.onmessage = (event) => take(JSON.parse(event.data));
    };
    listen();
    setInterval(() => { if (PENDING.includes($("#file")?.dataset.state) && live.dataset.live === "on" && Date.now() - heard >= QUIET) tell("millstream:file"); }, QUIET);
    addEventListener("pagehide", () => source.close());
    addEventListener("pageshow", (event) => { if (event.persisted) listen(); });
  }

  // ---- a calculation tried
  const form = $("#try");
  if (form) {
    const toml = $("#try-toml"), said = $("#try-said"), error = $("#try-error"), rows = $("#try-rows"), why = $("#try-reasons");
    let content = null, timer, turn = 0;
    const cell = (kind, text, className) => Object.assign(document.createElement(kind), { textContent: text, className: className || "" });
    const show = (tried) => {
      const table = Object.assign(document.createElement("table"), { className: "rows" });
      const head = document.createElement("tr");
      head.append(cell("th", "row", "right"), ...tried.columns.map((name) => cell("th", name)), ...tried.outputs.map((output) => Object.assign(cell("th", output.name, "out"), { title: output.type })));
      head.querySelectorAll("th").forEach((item) => { item.scope = "col"; });
      const body = document.createElement("tbody");
      for (const row of tried.rows) {
        const line = document.createElement("tr");
        line.append(cell("td", row.row, "right dim"), ...tried.columns.map((_, at) => cell("td", row.cells[at] ?? "")));
        if (row.error !== null) line.append(Object.assign(cell("td", row.error, "out error"), { colSpan: tried.outputs.length }));
        else line.append(...row.results.map((value) => (value === null ? cell("td", "NULL", "out dim") : cell("td", value, "out"))));
        body.append(line);
      }
      const top = document.createElement("thead");
      top.append(head);
      table.append(top, body);
      rows.replaceChildren(table);
      rows.hidden = false;
      why.replaceChildren(...tried.reasons.map((reason) => {
        const line = document.createElement("li"), words = document.createElement("span");
        words.append(cell("span", reason.text, "text"), cell("span", `first in row ${number(reason.row)}: ${reason.example}`, "also"));
        line.append(cell("span", number(reason.count), "count"), words);
        return line;
      }));
      why.hidden = !tried.reasons.length;
      set(said, `${tried.dialect}. Of the first ${number(tried.computed)} row${tried.computed === 1 ? "" : "s"}, ${tried.rejected ? number(tried.rejected) : "none"} would be rejected.`);
    };
    const run = async () => {
      if (!content) return;
      const mine = ++turn;
      set(said, "Computing …");
      let problem = null;
      try {
        const answer = await fetch("/try", { method: "POST", headers: { "Content-Type": "application/json", ...headers() }, body: JSON.stringify({ ...content, calculation: toml.value || null }) });
        const found = await answer.json();
        if (mine !== turn) return;
        if (answer.ok) { if (!toml.value) toml.value = found.calculation; toml.disabled = false; show(found); } else { problem = found.detail; if (answer.status === 401) askForToken(); }
      } catch { problem = "the reader doesn't answer: try again in a moment"; }
      if (mine !== turn) return;
      error.hidden = problem === null;
      set(error, problem || "");
      if (problem !== null) { set(said, "No rows yet:"); rows.hidden = true; why.hidden = true; toml.disabled = false; }
    };
    $("#try-file").addEventListener("change", async (event) => {
      const picked = event.target.files[0];
      if (!picked) return;
      const bytes = new Uint8Array(await picked.slice(0, 65536).arrayBuffer());
      let text = "";
      for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
      content = { name: picked.name, content: btoa(text), whole: picked.size <= 65536 };
      set($("#try-name"), `${picked.name}, ${size(picked.size)}`);
      toml.value = "";
      run();
    });
    toml.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(run, 500); });
    form.addEventListener("submit", (event) => event.preventDefault());
    document.body.addEventListener("millstream:token", run);
  }
})();
