// Live parts of a page: the server draws them, an event stream brings those that changed. Nothing here draws anything.
"use strict";

function replace(part, html) {
  const held = part.contains(document.activeElement) ? document.activeElement : null;
  const key = held && (held.getAttribute("href") || held.getAttribute("aria-label"));
  const scrolled = [...part.querySelectorAll(".scroll")].map((box) => [box.scrollLeft, box.scrollTop]);
  part.innerHTML = html;
  part.querySelectorAll(".scroll").forEach((box, index) => {
    [box.scrollLeft, box.scrollTop] = scrolled[index] || [0, 0];
  });
  if (key) {
    const same = [...part.querySelectorAll("a, [aria-label]")].find(
      (node) => node.getAttribute("href") === key || node.getAttribute("aria-label") === key,
    );
    if (same) same.focus({ preventScroll: true });
  }
}

function follow(root) {
  const note = root.querySelector(".live");
  const say = (words, on) => {
    note.textContent = words;
    note.classList.toggle("on", on);
  };
  const source = new EventSource(root.dataset.stream);
  source.addEventListener("open", () => say("Live", true));
  source.addEventListener("error", () => say("Connecting again…", false));
  source.addEventListener("parts", (event) => {
    for (const [name, html] of Object.entries(JSON.parse(event.data))) {
      const part = root.querySelector(`[data-part="${name}"]`);
      if (part) replace(part, html);
    }
  });
  source.addEventListener("over", () => {
    source.close();
    say("This sweep has ended.", false);
  });
  window.addEventListener("pagehide", () => source.close());
}

// A trial under the pointer shows in the table and in the parallel coordinates at once.
function light(event, on) {
  const trial = event.target.closest("[data-trial]");
  if (!trial) return;
  for (const node of document.querySelectorAll(`[data-trial="${CSS.escape(trial.dataset.trial)}"]`)) {
    node.classList.toggle("lit", on);
  }
}

document.querySelectorAll("[data-stream]").forEach(follow);
for (const [type, on] of [["pointerover", true], ["pointerout", false], ["focusin", true], ["focusout", false]]) {
  document.addEventListener(type, (event) => light(event, on));
}
