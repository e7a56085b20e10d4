// What is known of the study that is open, as it arrives.

import { get } from "./api.js";
import { throttled } from "./dom.js";
import { watch } from "./events.js";

const REDRAW_MS = 250;
const FRONT_MS = 1_500;

/** @typedef {{number: number, label: string, design: Record<string, any>, simulated: boolean, feasible: boolean, objectives: (number | null)[], broken: string[], bottleneck: string, reason: string}} Trial */
/** @typedef {{name: string, label: string, title: string, direction: "minimize" | "maximize"}} Objective */

/** Tells of `change` (trials, front, state), `connection`, `hypervolume`, and `gone`. */
export class StudyModel extends EventTarget {
  /** @param {any} study as the service describes it */
  constructor(study) {
    super();
    this.study = study;
    /** @type {Objective[]} */
    this.objectives = study.objectives;
    /** Trials by number, in the order in which they finished. */
    this.trials = /** @type {Map<number, Trial>} */ (new Map());
    /** Numbers of the front, by the first objective. */
    this.front = /** @type {number[]} */ ([]);
    this.onFront = /** @type {Set<number>} */ (new Set());
    /** @type {number | null} */
    this.recommended = null;
    /** @type {{simulated: number, share: number}[]} */
    this.hypervolume = [];
    this.caveat = "";
    this.connection = "open";
    this.complete = false;
    this.details = /** @type {Map<number, Promise<any>>} */ (new Map());
    /** Choices that differ between designs. @type {Set<string>} */
    this.varied = new Set();
    /** @type {Map<string, any>} */
    this._seen = new Map();
    this._changed = throttled(REDRAW_MS, () => this.dispatchEvent(new Event("change")));
    this._ask = throttled(FRONT_MS, () => this._front());
    this._stop = () => {};
    this._open();
  }

  get path() {
    return `studies/${encodeURIComponent(this.study.id)}`;
  }

  get isOver() {
    return ["finished", "failed", "cancelled"].includes(this.study.state);
  }

  _open() {
    this._stop();
    this._stop = watch(`${this.path}/events?after=${this.trials.size}`, {
      onEvent: (name, data) => this._take(name, data),
      onState: (state, problem) => {
        this.connection = state;
        if (/** @type {import("./api.js").Problem | undefined} */ (problem)?.status === 404) this.dispatchEvent(new Event("gone"));
        else this.dispatchEvent(new Event("connection"));
      },
    });
  }

  /** @param {string} name @param {any} data */
  _take(name, data) {
    if (name === "study" || name === "end") Object.assign(this.study, data);
    if (name === "end") {
      this.complete = true;
      this._ask();
    }
    if (name === "trials") for (const trial of data.trials) this._learn(trial);
    if (name === "front") {
      this.front = data.front;
      this.onFront = new Set(data.front);
      this.recommended = data.recommended;
      Object.assign(this.study, { evaluated: data.evaluated, simulated: data.simulated, feasible: data.feasible, front: data.front.length });
      this._ask();
    }
    this._changed();
  }

  /** @param {Trial} trial */
  _learn(trial) {
    this.trials.set(trial.number, trial);
    for (const [name, value] of Object.entries(trial.design)) {
      if (!this._seen.has(name)) this._seen.set(name, value);
      else if (this._seen.get(name) !== value) this.varied.add(name);
    }
  }

  /** What only the whole front tells: the hypervolume and what its figures do not rest on. */
  async _front() {
    try {
      const found = await get(`${this.path}/front`);
      this.hypervolume = found.hypervolume;
      this.caveat = found.caveat;
      this.dispatchEvent(new Event("hypervolume"));
    } catch {
      // The next change of the front asks again.
    }
  }

  /** Return a trial's detail, asked for once. @param {number} number @returns {Promise<any>} */
  detail(number) {
    let asked = this.details.get(number);
    if (!asked) {
      asked = get(`${this.path}/trials/${number}`);
      asked.catch(() => this.details.delete(number));
      this.details.set(number, asked);
    }
    return asked;
  }

  /** Take a newer state of the study, e.g. after it was paused; one that goes on is watched again. @param {any} study */
  update(study) {
    Object.assign(this.study, study);
    if (!this.isOver && this.connection === "closed") this._open();
    this.dispatchEvent(new Event("change"));
  }

  close() {
    this._stop();
    this._changed.cancel();
    this._ask.cancel();
  }
}
