// The slider of alpha: shows the mixing weights after an earlier step in the tables that the page has.
"use strict";
const data = document.getElementById("alpha-data");
if (data) {
  const { steps, shares, chosen, levels, low, high, digits } = JSON.parse(data.textContent);
  const slider = document.getElementById("alpha-at");
  const play = document.getElementById("alpha-play");
  const step = document.getElementById("alpha-step");
  const last = steps.length - 1;
  let timer = null;

  function show(frame) {
    for (const table of document.querySelectorAll("table[data-cell]")) {
      const cell = table.dataset.cell;
      shares[cell][frame].forEach((row, edge) => {
        const strongest = frame === last ? chosen[cell][edge] : row.indexOf(Math.max(...row));
        row.forEach((share, operation) => {
          const shown = table.tBodies[0].rows[edge].cells[operation + 1];
          const shade = Math.round((levels * (share - low)) / Math.max(high - low, 1e-9));
          shown.className = `s${Math.min(Math.max(shade, 0), levels)}${operation === strongest ? " chosen" : ""}`;
          shown.textContent = share.toFixed(digits);
        });
      });
    }
    slider.value = frame;
    step.textContent = steps[frame];
    slider.setAttribute("aria-valuetext", `after step ${steps[frame]}`);
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
  }

  function start() {
    let frame = Number(slider.value) === last ? 0 : Number(slider.value);
    show(frame);
    play.textContent = "Pause";
    timer = setInterval(() => (frame < last ? show(++frame) : stop()), Math.max(60, 4000 / steps.length));
  }

  slider.addEventListener("input", () => {
    stop();
    show(Number(slider.value));
  });
  play.addEventListener("click", () => (timer === null ? start() : stop()));
  slider.closest("[hidden]").hidden = false;
  show(last);
}
