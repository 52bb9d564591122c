// Live pages, and the login link. Every page works without this file.
"use strict";

// A login link carries its token behind "#", which the browser sends to nobody.
(function logIn() {
  const form = document.getElementById("login");
  const token = location.hash.slice(1);
  if (!form || !token) return;
  history.replaceState(null, "", location.pathname + location.search);
  form.elements.token.value = token;
  form.submit();
})();

(function showWhereWeAre() {
  const here = document.querySelector(".pages [aria-current]");
  if (here) here.scrollIntoView({ block: "nearest", inline: "center" });
})();

// The page is asked for again; parts that are marked live take what is new in them.
(function keepLive() {
  const seconds = Number(document.body.dataset.liveSeconds);
  if (!seconds) return;
  const state = document.getElementById("live-state");
  let failures = 0;

  function busy(part) {
    return part.contains(document.activeElement) && document.activeElement !== document.body &&
      document.activeElement.matches("input, select, textarea, summary, button");
  }

  function replace(fresh) {
    for (const part of document.querySelectorAll("[data-live]")) {
      const next = fresh.getElementById(part.id);
      if (!next || busy(part) || part.innerHTML === next.innerHTML) continue;
      const open = new Set([...part.querySelectorAll("details[open][id]")].map((each) => each.id));
      part.innerHTML = next.innerHTML;
      for (const each of part.querySelectorAll("details[id]")) if (open.has(each.id)) each.open = true;
    }
    document.title = fresh.title;
  }

  async function look() {
    if (document.hidden) return;
    try {
      const answer = await fetch(location.href, {
        headers: { "X-Runbook-Live": "1", Accept: "text/html" }, cache: "no-store", redirect: "error",
        signal: AbortSignal.timeout(20000),
      });
      if (answer.status === 401) return location.reload();
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (!answer.ok) throw new Error(fresh.querySelector(".note")?.textContent || `status ${answer.status}`);
      replace(fresh);
      failures = 0;
      state.className = "";
      state.replaceChildren("Live. " + (fresh.getElementById("live-state")?.textContent || ""));
    } catch (error) {
      failures += 1;
      state.className = "stale";
      state.replaceChildren(`No answer for ${failures * seconds} s; what is shown is old. (${error.message})`);
    }
  }

  let timer = setInterval(look, seconds * 1000);
  document.addEventListener("visibilitychange", () => {
    clearInterval(timer);
    if (!document.hidden) { look(); timer = setInterval(look, seconds * 1000); }
  });
})();
