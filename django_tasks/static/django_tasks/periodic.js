// The next runs of a periodic task, shown anew whenever its form changes. No library, no inline script.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const box = document.querySelector(".periodic-preview");
  const form = box && box.closest("form");
  if (!form || !form.elements.schedule) return;

  // Only the example of the kind that is chosen.
  const kind = form.elements.kind;
  const showExample = () => {
    for (const each of document.querySelectorAll(".periodic-examples [data-kind]")) {
      each.hidden = each.dataset.kind !== kind.value;
    }
  };

  const show = (answer, empty = "It never runs.") => {
    const list = box.querySelector("ol");
    list.replaceChildren(...answer.runs.map((run) => {
      const item = document.createElement("li");
      const away = document.createElement("small");
      away.textContent = `(${run.distance})`;
      item.append(`${run.text} `, away);
      return item;
    }));
    const none = answer.runs.length ? "" : empty;
    const text = box.querySelector("p");
    text.textContent = answer.errors.length ? answer.errors.join(" ") : none;
    box.classList.toggle("wrong", answer.errors.length > 0);
  };

  let timer = null;
  let running = null;
  const ask = async () => {
    if (running) running.abort();
    const mine = running = new AbortController();
    const data = new FormData(form);
    try {
      const answer = await fetch(box.dataset.url, {method: "POST", body: data, signal: mine.signal});
      if (!answer.ok) throw new Error(`The server answered ${answer.status}.`);
      show(await answer.json());
    } catch (error) {
      if (error.name !== "AbortError") show({runs: [], errors: [`The next runs are not known. ${error.message}`]});
    }
  };
  const later = () => {
    showExample();
    clearTimeout(timer);
    if (form.elements.schedule.value.trim()) {
      timer = setTimeout(ask, 250);
      return;
    }
    if (running) running.abort();
    show({runs: [], errors: []}, "");
  };

  // Django's shortcuts for dates set values without an event, but take the focus.
  for (const event of ["input", "change", "focusin"]) form.addEventListener(event, later);
  later();
});
