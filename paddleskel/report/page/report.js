// The confusion matrix of a report (zoom, hover, sort, keys), its sortable tables and the theme switch.
"use strict";
(() => {
  const data = JSON.parse(document.querySelector("#report-data script").textContent);
  const count = data.names.length;
  const rows = data.matrix.map((row) => row.reduce((a, b) => a + b, 0));
  const $ = (selector) => document.querySelector(selector);

  function colors() {
    const style = getComputedStyle(document.documentElement);
    const get = (name) => style.getPropertyValue(name).trim();
    return {text: get("--ink"), soft: get("--soft"), line: get("--line"), right: get("--right"), wrong: get("--wrong"),
      paper: get("--paper")};
  }

  // ---- the matrix ----

  const canvas = $("#matrix"), ink = canvas.getContext("2d"), tip = $("#matrix-tip"), chosen = $("#matrix-chosen");
  const view = {x: 0, y: 0, cells: count};  // left top cell and how many are visible
  let order = data.orders.label, cursor = null, box = null;

  function layout() {
    const width = canvas.clientWidth, small = width < 560;
    ink.font = "12px system-ui, sans-serif";
    const longest = Math.min(small ? 90 : 150, 14 + Math.max(...data.names.map((name) => ink.measureText(name).width)));
    const left = longest, top = Math.min(longest, 110), side = Math.max(160, Math.min(width - left - 4, 640));
    const height = side + top + 4, density = devicePixelRatio || 1;
    canvas.style.height = `${height}px`;
    canvas.width = width * density;
    canvas.height = height * density;
    ink.setTransform(density, 0, 0, density, 0, 0);
    box = {left, top, side, width, height};
  }

  function share(label, predicted) {
    return rows[label] ? data.matrix[label][predicted] / rows[label] : 0;
  }

  function draw() {
    layout();
    const paint = colors(), {left, top, side} = box, size = side / view.cells;
    ink.clearRect(0, 0, box.width, box.height);
    ink.save();
    ink.beginPath();
    ink.rect(left, top, side, side);
    ink.clip();
    for (let i = Math.floor(view.y); i < Math.min(count, view.y + view.cells); i++) {
      for (let j = Math.floor(view.x); j < Math.min(count, view.x + view.cells); j++) {
        const label = order[i], predicted = order[j], value = data.matrix[label][predicted];
        const x = left + (j - view.x) * size, y = top + (i - view.y) * size;
        if (value) {
          ink.globalAlpha = 0.12 + 0.88 * Math.sqrt(share(label, predicted));
          ink.fillStyle = label === predicted ? paint.right : paint.wrong;
          ink.fillRect(x, y, size + 0.5, size + 0.5);
          ink.globalAlpha = 1;
          if (size > 20) {
            ink.fillStyle = Math.sqrt(share(label, predicted)) > 0.6 ? paint.paper : paint.text;
            ink.font = `${Math.min(13, size / 2.4)}px system-ui, sans-serif`;
            ink.textAlign = "center";
            ink.textBaseline = "middle";
            ink.fillText(value, x + size / 2, y + size / 2);
          }
        } else if (label === predicted) {
          ink.strokeStyle = paint.line;
          ink.strokeRect(x + 0.5, y + 0.5, size - 1, size - 1);
        }
        if (cursor && cursor[0] === i && cursor[1] === j) {
          ink.strokeStyle = paint.text;
          ink.lineWidth = 2;
          ink.strokeRect(x + 1, y + 1, size - 2, size - 2);
          ink.lineWidth = 1;
        }
      }
    }
    ink.restore();
    ink.strokeStyle = paint.line;
    ink.strokeRect(left, top, side, side);
    drawNames(paint, size);
  }

  function drawNames(paint, size) {
    const {left, top, side} = box, step = Math.max(1, Math.ceil(9 / size));
    ink.font = `${Math.max(8, Math.min(12, size * 0.8))}px system-ui, sans-serif`;
    ink.fillStyle = paint.text;
    ink.textBaseline = "middle";
    for (let i = 0; i < count; i += step) {
      const name = data.names[order[i]];
      const y = top + (i + 0.5 - view.y) * size, x = left + (i + 0.5 - view.x) * size;
      ink.textAlign = "right";
      if (y > top && y < top + side) ink.fillText(fit(name, left - 8), left - 5, y);
      if (x > left && x < left + side) {
        ink.save();
        ink.translate(x, top - 5);
        ink.rotate(-Math.PI / 2);
        ink.textAlign = "left";
        ink.fillText(fit(name, top - 8), 0, 0);
        ink.restore();
      }
    }
  }

  function fit(name, width) {
    if (ink.measureText(name).width <= width) return name;
    let cut = name;
    while (cut.length > 1 && ink.measureText(`${cut}…`).width > width) cut = cut.slice(0, -1);
    return `${cut}…`;
  }

  function cellAt(event) {
    const area = canvas.getBoundingClientRect(), size = box.side / view.cells;
    const x = event.clientX - area.left - box.left, y = event.clientY - area.top - box.top;
    if (x < 0 || y < 0 || x >= box.side || y >= box.side) return null;
    const cell = [Math.floor(view.y + y / size), Math.floor(view.x + x / size)];
    return cell[0] < count && cell[1] < count ? cell : null;
  }

  function say(cell) {
    const [label, predicted] = [order[cell[0]], order[cell[1]]], value = data.matrix[label][predicted];
    const percent = rows[label] ? ` (${(100 * share(label, predicted)).toFixed(1)} % of ${rows[label]})` : "";
    if (label === predicted) return `${data.names[label]}: ${value} right${percent}`;
    return `${data.names[label]} → ${data.names[predicted]}: ${value}${percent}`;
  }

  function choose(cell) {
    cursor = cell;
    const [label, predicted] = [order[cell[0]], order[cell[1]]];
    chosen.replaceChildren(document.createTextNode(say(cell)));
    const samples = data.errors.filter((error) => error[1] === label && error[2] === predicted);
    if (samples.length) {
      const list = document.createElement("ul");
      samples.slice(0, 40).forEach(([id, , , confidence]) => {
        const item = document.createElement("li");
        item.textContent = `${id} (${(100 * confidence).toFixed(0)} % sure)`;
        list.append(item);
      });
      chosen.append(list);
    }
    draw();
  }

  function zoom(factor, at = [view.y + view.cells / 2, view.x + view.cells / 2]) {
    const cells = Math.max(Math.min(4, count), Math.min(count, view.cells / factor)), ratio = cells / view.cells;
    view.y = at[0] - (at[0] - view.y) * ratio;
    view.x = at[1] - (at[1] - view.x) * ratio;
    view.cells = cells;
    settle();
  }

  function settle() {
    view.x = Math.max(0, Math.min(count - view.cells, view.x));
    view.y = Math.max(0, Math.min(count - view.cells, view.y));
    draw();
  }

  function show(cell) {
    for (const [key, value] of [["y", cell[0]], ["x", cell[1]]]) {
      if (value < view[key]) view[key] = value;
      if (value + 1 > view[key] + view.cells) view[key] = value + 1 - view.cells;
    }
  }

  let drag = null;
  canvas.addEventListener("pointerdown", (event) => { drag = [event.clientX, event.clientY, false]; });
  canvas.addEventListener("pointermove", (event) => {
    const cell = cellAt(event);
    tip.hidden = !cell;
    if (cell) {
      const frame = canvas.parentElement.getBoundingClientRect();
      tip.textContent = say(cell);
      const x = event.clientX - frame.left, y = event.clientY - frame.top;
      tip.style.left = `${Math.max(0, Math.min(x + 12, frame.width - tip.offsetWidth - 4))}px`;
      tip.style.top = `${y + 16}px`;
    }
    if (drag && event.buttons && view.cells < count) {
      const [dx, dy] = [event.clientX - drag[0], event.clientY - drag[1]];
      if (Math.hypot(dx, dy) > 3 || drag[2]) {
        const size = box.side / view.cells;
        view.x -= dx / size;
        view.y -= dy / size;
        drag = [event.clientX, event.clientY, true];
        settle();
      }
    }
  });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  canvas.addEventListener("click", (event) => {
    const cell = cellAt(event);
    if (cell && !(drag && drag[2])) choose(cell);
  });
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.shiftKey) return;  // a plain wheel scrolls the page
    event.preventDefault();
    zoom(event.deltaY + event.deltaX < 0 ? 1.25 : 0.8, cellAt(event) || undefined);
  }, {passive: false});
  canvas.addEventListener("dblclick", (event) => zoom(2, cellAt(event) || undefined));
  canvas.addEventListener("keydown", (event) => {
    const moves = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]};
    if (event.key in moves) {
      const from = cursor || [Math.floor(view.y), Math.floor(view.x)], [dy, dx] = cursor ? moves[event.key] : [0, 0];
      const cell = [Math.max(0, Math.min(count - 1, from[0] + dy)), Math.max(0, Math.min(count - 1, from[1] + dx))];
      show(cell);
      choose(cell);
    } else if (event.key === "+" || event.key === "=") zoom(1.5, cursor || undefined);
    else if (event.key === "-") zoom(1 / 1.5, cursor || undefined);
    else if (event.key === "0") zoom(1e-9);
    else return;
    event.preventDefault();
  });
  $("#zoom-in").addEventListener("click", () => zoom(1.5));
  $("#zoom-out").addEventListener("click", () => zoom(1 / 1.5));
  $("#zoom-all").addEventListener("click", () => zoom(1e-9));
  $("#matrix-order").addEventListener("change", (event) => {
    const classes = cursor && cursor.map((place) => order[place]);
    order = data.orders[event.target.value];
    cursor = classes && classes.map((label) => order.indexOf(label));
    draw();
  });
  document.querySelectorAll("[data-cell]").forEach((button) => {
    button.addEventListener("click", () => {
      const cell = button.dataset.cell.split(",").map((label) => order.indexOf(+label));
      show(cell);
      choose(cell);
      canvas.scrollIntoView({block: "center"});
      canvas.focus({preventScroll: true});
    });
  });

  // ---- sortable tables ----

  document.querySelectorAll("th[data-sort] button").forEach((button) => {
    button.addEventListener("click", () => {
      const head = button.parentElement, body = head.closest("table").tBodies[0];
      const column = [...head.parentElement.children].indexOf(head);
      const down = head.getAttribute("aria-sort") !== "descending";
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const numeric = head.dataset.sort === "number";
      const compare = (a, b) => numeric ? number(value(a)) - number(value(b)) : value(a).localeCompare(value(b));
      const sorted = [...body.rows].sort((a, b) => (down ? -1 : 1) * compare(a, b));
      head.parentElement.querySelectorAll("th").forEach((th) => th.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      body.append(...sorted);
    });
  });
  function number(text) {
    return text === "" || isNaN(text) ? -1 : +text;
  }

  // ---- theme ----

  $("#theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    draw();
    SkeletonPlayer.redraw();
  });
  const pause = $("#pause-all");
  if (pause) pause.addEventListener("click", () => SkeletonPlayer.pauseAll());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("resize", draw);
  // paper is white, whatever the screen
  let screenTheme = null;
  addEventListener("beforeprint", () => {
    screenTheme = document.documentElement.dataset.theme || "";
    document.documentElement.dataset.theme = "light";
    draw();
  });
  addEventListener("afterprint", () => {
    if (screenTheme) document.documentElement.dataset.theme = screenTheme;
    else delete document.documentElement.dataset.theme;
    draw();
  });
  draw();
})();
