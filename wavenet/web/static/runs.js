// The Runs section of a studio: training runs while they train. What the server says of them is described in
// wavenet/web/runs.py.

import { element, parts } from "./dom.js";

const MARKUP = `
  <h2 id="runs-title">Training runs</h2>
  <p class="notice error" role="status" data-part="problem" hidden></p>
  <p class="hint" data-part="none">There are none in this folder yet. <code>wavenet train RECORDINGS --out RUN</code> starts one.</p>
  <div class="runs">
    <ul data-part="list"></ul>
    <article class="panel" aria-label="Run" data-part="run" hidden>
      <h3 data-part="name"></h3>
      <p class="verdict" data-part="verdict"></p>
      <p class="hint" data-part="result"></p>
      <div data-part="charts"></div>
      <h4 data-part="title"></h4>
      <div class="entries" data-part="entries"></div>
      <details><summary>Settings</summary><pre tabindex="0" data-part="settings"></pre></details>
    </article>
  </div>
  <details data-part="refused" hidden><summary>Files that cannot be played</summary><ul data-part="reasons"></ul></details>`;

const EVERY = 3000; // milliseconds between two looks at the runs

export function mountRuns(section, manifest) {
  section.innerHTML = MARKUP;
  return new Runs(section, manifest);
}

class Runs {
  constructor(section, { runs, unplayable = [] }) {
    this.ui = parts(section);
    this.address = runs;
    this.chosen = null; // id of the run that is shown
    this.shown = ""; // what is shown of it, as it came
    this.items = new Map(); // elements of the list by the ids of runs
    this.ui.refused.hidden = !unplayable.length;
    this.ui.reasons.replaceChildren(...unplayable.map(({ name, reason }) => element("li", {}, `${name}: ${reason}`)));
    document.addEventListener("visibilitychange", () => this.look());
    this.look();
  }

  // Looks at the runs now, and again after a while as long as the page is visible.
  async look() {
    clearTimeout(this.timer);
    if (document.hidden) return;
    const { ui } = this;
    try {
      this.showList(await read(this.address));
      if (this.chosen) await this.show(this.chosen);
      ui.problem.hidden = true;
    } catch (error) {
      ui.problem.hidden = false;
      ui.problem.textContent = `The runs cannot be read: ${error.message}`;
    }
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.look(), EVERY);
  }

  showList({ runs }) {
    const { ui, items } = this;
    ui.none.hidden = runs.length > 0;
    for (const id of [...items.keys()].filter((id) => !runs.some((run) => run.id === id))) {
      items.get(id).root.remove();
      items.delete(id);
    }
    for (const run of runs) {
      if (!items.has(run.id)) items.set(run.id, this.item(run));
      items.get(run.id).update(run);
    }
    const order = runs.map(({ id }) => items.get(id).root);
    if (order.some((root, i) => ui.list.children[i] !== root)) ui.list.append(...order); // which takes the focus from them
    if (!this.chosen && runs.length) this.choose(runs[0].id);
  }

  // The list's entry for a run.
  item({ id, name }) {
    const button = element("button", { type: "button", textContent: name, ariaPressed: "false" });
    const progress = element("progress", { max: 1, ariaLabel: `Share of the training of ${name}` });
    const hint = element("p", { className: "hint" });
    button.addEventListener("click", () => {
      this.choose(id);
      this.look();
    });
    const update = (run) => {
      progress.hidden = run.fraction === null;
      progress.value = run.fraction ?? 0;
      hint.textContent = summary(run);
    };
    return { root: element("li", {}, button, progress, hint), button, update };
  }

  choose(id) {
    this.chosen = id;
    for (const [other, { button }] of this.items) button.ariaPressed = String(other === id);
  }

  async show(id) {
    const run = await read(`${this.address}/${id}`);
    if (id !== this.chosen) return;
    const { ui } = this;
    const text = JSON.stringify([id, run.charts, run.entries, run.latest, run.settings]);
    if (text === this.shown) return;
    this.shown = text;
    ui.run.hidden = false;
    ui.name.textContent = run.name;
    ui.verdict.textContent = run.latest?.text ?? "";
    ui.result.textContent = run.latest?.result ?? "No validation yet.";
    ui.charts.replaceChildren(...run.charts.map(chart));
    ui.title.textContent = run.entries.length ? run.title : "";
    ui.settings.textContent = run.settings;
    this.showEntries(run);
  }

  // Adds those that are new, so that a clip that plays is left alone.
  showEntries({ id, entries }) {
    const { ui } = this;
    const known = new Map(Array.from(ui.entries.children, (child) => [child.dataset.key, child]));
    const wanted = entries.map((entry) => {
      const key = `${id}/${entry.step}/${entry.audio}/${entry.picture}`;
      return known.get(key) ?? this.entry(entry, key, `${this.address}/${id}/`);
    });
    for (const child of known.values()) if (!wanted.includes(child)) child.remove();
    wanted.forEach((child, i) => {
      if (ui.entries.children[i] !== child) ui.entries.insertBefore(child, ui.entries.children[i] ?? null);
    });
  }

  entry({ step, result, text, audio, picture, shows }, key, address) {
    const root = element("section", {}, element("h5", {}, `Step ${step.toLocaleString("en")}`));
    root.dataset.key = key;
    root.append(element("p", { className: "hint" }, result));
    if (text) root.append(element("p", {}, text));
    const label = `Clip of step ${step}`;
    if (audio) root.append(element("audio", { controls: true, preload: "none", src: address + audio, ariaLabel: label }));
    if (picture) root.append(element("img", { loading: "lazy", src: address + picture, alt: shows }));
    return root;
  }
}

async function read(address) {
  const response = await fetch(address, { cache: "no-cache" }).catch(() => {
    throw new Error("wavenet studio does not answer");
  });
  if (!response.ok) throw new Error((await response.text()).trim());
  return response.json();
}

// A chart of the server, which makes it of numbers.
function chart({ title, html }) {
  const root = element("figure", {}, element("figcaption", {}, title));
  root.insertAdjacentHTML("beforeend", html);
  return root;
}

function summary({ state, step, secondsLeft, bits, seconds }) {
  const facts = [state];
  if (secondsLeft !== null) facts.push(`${duration(secondsLeft)} left`);
  if (step) facts.push(`step ${step.toLocaleString("en")} after ${duration(seconds)}`);
  if (bits !== null) facts.push(`${bits.toFixed(3)} bits per sample`);
  return facts.join(" · ");
}

// Such as "45 s", "12 min" or "3 h 7 min".
export function duration(seconds) {
  const minutes = Math.round(seconds / 60);
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
