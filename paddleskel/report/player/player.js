// Plays skeleton sequences on a canvas. `SkeletonPlayer.mount(element, data)` builds one player from what
// `player_data` of __init__.py returns; every `.skeleton-player` of a page is mounted when the page has loaded.
"use strict";
(() => {
  const THEMES = {
    light: {
      mid: "#4b5563", joint: "#111827", floor: "#d1d5db", text: "#6b7280", cursor: "#111827",
      sides: [["#2563eb", "#ea580c"], ["#0d9488", "#be185d"], ["#7c3aed", "#a16207"], ["#475569", "#b91c1c"]],
      curves: ["#2563eb", "#ea580c", "#0d9488", "#be185d", "#7c3aed"],
    },
    dark: {
      mid: "#9ca3af", joint: "#f3f4f6", floor: "#374151", text: "#9ca3af", cursor: "#f3f4f6",
      sides: [["#60a5fa", "#fb923c"], ["#2dd4bf", "#f472b6"], ["#a78bfa", "#facc15"], ["#94a3b8", "#f87171"]],
      curves: ["#60a5fa", "#fb923c", "#2dd4bf", "#f472b6", "#a78bfa"],
    },
  };
  const SPEEDS = [1, 0.5, 0.25, 2];
  const MISSING = -32768;
  const TURN = -0.35, TILT = 0.18;  // radians, how 3D skeletons are seen at first
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const players = new Set();
  let printing = false;

  function theme() {
    const chosen = document.documentElement.dataset.theme;
    const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    return THEMES[dark && !printing ? "dark" : "light"];
  }

  function bytes(base64) {
    return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  }

  function element(tag, className, text) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  }

  class Player {
    constructor(root, data) {
      this.root = root;
      this.data = data;
      this.unpack();
      this.yaw = data.dims === 3 ? TURN : 0;
      this.pitch = data.dims === 3 ? TILT : 0;
      this.frame = 0;
      this.speed = 0;
      this.playing = false;
      this.visible = false;
      this.wanted = data.autoplay && !calm.matches && data.frames > 1;
      this.build();
      players.add(this);
      new ResizeObserver(() => this.draw()).observe(this.canvas);
      new IntersectionObserver((entries) => this.seen(entries[entries.length - 1].isIntersecting)).observe(this.canvas);
    }

    // points: centred (M * T * V * 3) in units of the figure's radius, NaN where nothing was seen
    unpack() {
      const data = this.data, raw = new Int16Array(bytes(data.points).buffer);
      const count = data.persons * data.frames * data.joints, dims = data.dims;
      this.points = new Float32Array(count * 3).fill(NaN);
      for (let i = 0; i < count; i++) {
        if (raw[i * dims] === MISSING) continue;
        for (let c = 0; c < 3; c++) this.points[i * 3 + c] = c < dims ? raw[i * dims + c] / 10000 : 0;
      }
      this.score = data.score ? bytes(data.score) : null;
    }

    build() {
      const data = this.data, root = this.root;
      root.classList.add("skeleton-player");
      root.setAttribute("role", "group");
      root.setAttribute("aria-label", data.label);
      this.canvas = element("canvas", "sp-view");
      this.canvas.tabIndex = 0;
      this.canvas.setAttribute("role", "img");
      const keys = "Space plays and pauses, comma and full stop step" + (data.dims === 3 ? ", arrows turn" : "");
      this.canvas.setAttribute("aria-label", `${data.label}. ${keys}.`);
      this.canvas.title = data.dims === 3 ? "Drag to turn, double-click to reset" : "";
      root.append(this.canvas);
      if (data.curves.length) this.buildCurves();
      const bar = element("div", "sp-bar");
      this.button = element("button", "sp-play");
      this.button.type = "button";
      this.slider = element("input", "sp-time");
      Object.assign(this.slider, {type: "range", min: 0, max: data.frames - 1, step: 1, value: 0});
      this.slider.setAttribute("aria-label", "Frame");
      this.clock = element("output", "sp-clock");
      this.pace = element("button", "sp-pace", "1×");
      this.pace.type = "button";
      this.pace.title = "Speed";
      bar.append(this.button, this.slider, this.clock, this.pace);
      root.append(bar);
      this.button.addEventListener("click", () => this.toggle());
      this.slider.addEventListener("input", () => this.seek(+this.slider.value));
      this.pace.addEventListener("click", () => {
        this.speed = (this.speed + 1) % SPEEDS.length;
        this.pace.textContent = `${SPEEDS[this.speed]}×`;
      });
      this.canvas.addEventListener("keydown", (event) => this.key(event));
      if (data.dims === 3) this.listenForTurns();
      this.play(false);
    }

    buildCurves() {
      this.chart = element("canvas", "sp-chart");
      this.chart.setAttribute("role", "img");
      this.chart.setAttribute("aria-label", "Scores over time: " + this.data.curves.map((c) => c.label).join(", "));
      this.legend = element("div", "sp-legend");
      this.data.curves.forEach((curve) => {
        const item = element("span");
        item.append(element("i"), curve.label);
        this.legend.append(item);
      });
      this.root.append(this.chart, this.legend);
      this.chart.addEventListener("click", (event) => {
        const box = this.chart.getBoundingClientRect();
        this.seek(Math.round(((event.clientX - box.left) / box.width) * (this.data.frames - 1)));
      });
    }

    listenForTurns() {
      let last = null;
      this.canvas.classList.add("sp-turns");
      this.canvas.addEventListener("pointerdown", (event) => {
        last = [event.clientX, event.clientY];
        this.canvas.setPointerCapture(event.pointerId);
      });
      this.canvas.addEventListener("pointermove", (event) => {
        if (!last) return;
        this.turn((event.clientX - last[0]) / 90, (event.clientY - last[1]) / 90);
        last = [event.clientX, event.clientY];
      });
      for (const end of ["pointerup", "pointercancel"]) this.canvas.addEventListener(end, () => { last = null; });
      this.canvas.addEventListener("dblclick", () => { this.yaw = TURN; this.pitch = TILT; this.draw(); });
    }

    turn(yaw, pitch) {
      this.yaw += yaw;
      this.pitch = Math.max(-1.5, Math.min(1.5, this.pitch + pitch));
      this.draw();
    }

    key(event) {
      const turns = {ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15]};
      if (event.key === " ") this.toggle();
      else if (event.key === "." || event.key === ",") {
        this.pause();
        this.seek(Math.floor(this.frame) + (event.key === "." ? 1 : -1));
      } else if (event.key in turns && this.data.dims === 3) this.turn(...turns[event.key]);
      else return;
      event.preventDefault();
    }

    toggle() { this.wanted = !this.playing; this.play(this.wanted); }
    pause() { this.wanted = false; this.play(false); }
    seen(visible) { this.visible = visible; this.play(visible && this.wanted); if (visible) this.draw(); }

    play(playing) {
      this.playing = playing;
      this.button.textContent = playing ? "❚❚" : "▶";
      this.button.setAttribute("aria-label", playing ? "Pause" : "Play");
      if (playing) wake();
    }

    seek(frame) {
      const last = this.data.frames - 1;
      this.frame = frame < 0 ? last : frame > last ? 0 : frame;
      this.draw();
    }

    tick(seconds) {
      const next = this.frame + seconds * this.data.fps * SPEEDS[this.speed];
      this.seek(next >= this.data.frames ? 0 : next);
    }

    draw() {
      const now = Math.floor(this.frame), total = this.data.frames;
      this.slider.value = now;
      this.clock.textContent = `${this.data.numbers[now]} / ${this.data.length}`;
      const context = prepare(this.canvas);
      if (!context) return;
      const {width, height} = context;
      if (!printing) this.drawPose(context.ink, now, width / 2, width, height);
      else {  // on paper, poses side by side stand for the motion
        const poses = Math.min(total, Math.max(1, Math.floor(width / (0.45 * height))));
        for (let i = 0; i < poses; i++) {
          const frame = poses === 1 ? now : Math.round((i * (total - 1)) / (poses - 1));
          this.drawPose(context.ink, frame, ((i + 0.5) * width) / poses, width / poses, height);
        }
      }
      if (this.chart) this.drawCurves(now);
    }

    // Orthographic view: turned by yaw about the vertical axis, then tilted by pitch.
    projector(x0, width, height) {
      const [cy, sy, cp, sp] = [Math.cos(this.yaw), Math.sin(this.yaw), Math.cos(this.pitch), Math.sin(this.pitch)];
      const box = this.data.extent, flat = this.data.dims === 2;
      const round = flat ? box[0] : Math.hypot(box[0], box[2]);
      const tall = flat ? box[1] : box[1] * Math.cos(TILT) + round * Math.sin(TILT);
      const scale = 0.47 * Math.min(width / round, height / tall);
      return (x, y, z) => {
        const depth = z * cy - x * sy;
        return [x0 + scale * (x * cy + z * sy), height / 2 - scale * (y * cp - depth * sp), depth * cp + y * sp];
      };
    }

    drawPose(ink, frame, x0, width, height) {
      const data = this.data, colors = theme(), project = this.projector(x0, width, height);
      if (data.dims === 3) this.drawFloor(ink, project, colors);
      const size = Math.max(1.2, Math.min(width, height) / 90);
      const strokes = [];
      for (let m = 0; m < data.persons; m++) {
        const at = (joint) => ((m * data.frames + frame) * data.joints + joint) * 3;
        const trust = (joint) => (this.score ? 0.2 + 0.8 * (this.score[at(joint) / 3] / 255) : 1);
        const color = (joint) => {
          const side = data.sides[joint];
          return side ? colors.sides[m % colors.sides.length][side - 1] : colors.mid;
        };
        const places = Array.from({length: data.joints}, (_, joint) => {
          const i = at(joint);
          return isNaN(this.points[i]) ? null : project(...this.points.subarray(i, i + 3));
        });
        for (const [a, b] of data.bones) {
          if (!places[a] || !places[b]) continue;
          const depth = (places[a][2] + places[b][2]) / 2;
          strokes.push([depth, color(a), Math.min(trust(a), trust(b)), places[a], places[b]]);
        }
        places.forEach((place, joint) => {
          if (place) strokes.push([place[2] + 1e-3, color(joint), trust(joint), place, null]);
        });
      }
      strokes.sort((a, b) => a[0] - b[0]);
      ink.lineCap = "round";
      for (const [, color, alpha, from, to] of strokes) {
        ink.globalAlpha = alpha;
        ink.strokeStyle = ink.fillStyle = color;
        ink.beginPath();
        if (to) {
          ink.lineWidth = size * 1.6;
          ink.moveTo(from[0], from[1]);
          ink.lineTo(to[0], to[1]);
          ink.stroke();
        } else {
          ink.arc(from[0], from[1], size * 1.25, 0, 7);
          ink.fill();
        }
      }
      ink.globalAlpha = 1;
    }

    drawFloor(ink, project, colors) {
      const [x, y, z] = this.data.extent, lines = 4;
      ink.strokeStyle = colors.floor;
      ink.lineWidth = 1;
      ink.beginPath();
      for (let i = 0; i <= lines; i++) {
        const s = (2 * i) / lines - 1;
        for (const [a, b] of [[[s * x, -z], [s * x, z]], [[-x, s * z], [x, s * z]]]) {
          ink.moveTo(...project(a[0], -y, a[1]).slice(0, 2));
          ink.lineTo(...project(b[0], -y, b[1]).slice(0, 2));
        }
      }
      ink.stroke();
    }

    drawCurves(now) {
      const context = prepare(this.chart);
      if (!context) return;
      const {ink, width, height} = context, colors = theme(), last = Math.max(1, this.data.frames - 1);
      const y = (value) => 4 + (height - 8) * (1 - value);
      ink.strokeStyle = colors.floor;
      ink.lineWidth = 1;
      for (const level of [0, 0.5, 1]) line(ink, 0, y(level), width, y(level));
      this.data.curves.forEach((curve, index) => {
        const color = colors.curves[index % colors.curves.length];
        ink.strokeStyle = color;
        ink.lineWidth = 2;
        ink.setLineDash(index % 2 ? [5, 3] : []);
        ink.beginPath();
        curve.values.forEach((value, i) => ink.lineTo((i / (curve.values.length - 1 || 1)) * width, y(value)));
        ink.stroke();
        ink.setLineDash([]);
        this.legend.children[index].firstChild.style.background = color;
        const value = curve.values[Math.round((now / last) * (curve.values.length - 1))];
        this.legend.children[index].lastChild.textContent = `${curve.label} ${(100 * value).toFixed(0)} %`;
      });
      ink.strokeStyle = colors.cursor;
      ink.lineWidth = 1;
      line(ink, (now / last) * width, 0, (now / last) * width, height);
    }
  }

  function line(ink, x0, y0, x1, y1) {
    ink.beginPath();
    ink.moveTo(x0, y0);
    ink.lineTo(x1, y1);
    ink.stroke();
  }

  // Fit a canvas to its box and the screen's pixels; null while it is hidden.
  function prepare(canvas) {
    const width = canvas.clientWidth, height = canvas.clientHeight, density = printing ? 2 : devicePixelRatio || 1;
    if (!width || !height) return null;
    const ink = canvas.getContext("2d");
    canvas.width = Math.round(width * density);
    canvas.height = Math.round(height * density);
    ink.setTransform(density, 0, 0, density, 0, 0);
    return {ink, width, height};
  }

  // One clock for all players of a page; it stops when none plays.
  let clock = null;
  function wake() {
    if (clock === null) clock = requestAnimationFrame((time) => turnOver(time, time));
  }
  function turnOver(time, before) {
    const playing = [...players].filter((player) => player.playing && player.root.isConnected);
    for (const player of playing) player.tick(Math.min(0.1, (time - before) / 1000));
    clock = playing.length ? requestAnimationFrame((next) => turnOver(next, time)) : null;
  }

  function redraw() {
    for (const player of players) {
      if (!player.root.isConnected) players.delete(player);
      else player.draw();
    }
  }

  function mountAll(within = document) {
    for (const root of within.querySelectorAll(".skeleton-player")) {
      const store = root.querySelector("script[type='application/json']");
      if (store && !root.querySelector("canvas")) new Player(root, JSON.parse(store.textContent));
    }
  }

  addEventListener("beforeprint", () => { printing = true; redraw(); });
  addEventListener("afterprint", () => { printing = false; redraw(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", () => mountAll());
  else mountAll();

  window.SkeletonPlayer = {
    mount: (root, data) => new Player(root, data),
    mountAll,
    redraw,
    pauseAll: () => players.forEach((player) => player.pause()),
  };
})();
