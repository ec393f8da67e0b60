// Asks for the state of an import and shows it, until nothing can change any more.
"use strict";

const POLL = 500;
const POLL_WHEN_AWAY = 3000;

const panel = document.querySelector("[data-status]");
const bar = panel.querySelector("progress");

// Text is only replaced when it differs: screen readers announce every replacement.
function show(selector, text) {
  const element = panel.querySelector(selector);
  if (element.textContent !== text) element.textContent = text;
  element.hidden = !text;
}

function update(status) {
  if (status.phase !== panel.dataset.phase && (status.phase === "finished" || status.phase === "failed")) {
    location.reload(); // the server draws the report
    return true;
  }
  show(".status", status.text);
  show(".hint", status.hint);
  show(".mail", status.mail_text);
  if (bar && status.total) {
    bar.max = status.total;
    bar.value = status.done;
  }
  return status.settled;
}

async function poll() {
  let pause = POLL;
  try {
    const answer = await fetch(panel.dataset.status, { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    if (update(await answer.json())) return;
  } catch (error) {
    pause = POLL_WHEN_AWAY;
    show(".hint", "The web server does not answer. This page goes on by itself once it does.");
  }
  setTimeout(poll, pause);
}

poll();
