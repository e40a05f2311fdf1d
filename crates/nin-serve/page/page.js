"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const canvas = byId("canvas"), overlay = byId("overlay"), stage = byId("stage");
  const context = canvas.getContext("2d", { willReadFrequently: true });

  // An answer that does not come within this time, in milliseconds, is given up.
  const PATIENCE = 20000;
  // A drawing is asked about this long after its first change since the last answer, or after that answer.
  const PAUSE = 60;
  // Answers to what was drawn before are marked as such when the next ones take longer.
  const LATE = 1000;
  // The longer side of an image as it is shown, as the server has it for maps.
  const SHOWN = 320;
  const DRAWN = 280;

  let model = null;
  // Whether the samples of this model are there.
  let offered = false;
  // The bytes that are asked about; null for the drawing on the canvas.
  let file = null;
  let empty = true;
  // Counts the changes of the image, and the images: what was asked about an earlier image is not shown.
  let version = 0, image = 0;
  // Counts what was opened or drawn: of images that take their time to open, the last counts.
  let opened = 0;
  // The request on its way.
  let asking = null;
  let timer = 0, late = 0, retries = 0;
  // Answers about an image that were another server's: if several take turns, theirs are taken as they come, until the next image.
  let strays = 0;
  // The last answer, the version that it is of, and the class that was clicked.
  let answer = null, answered = -1, picked = null;
  // The pointer that draws; a second finger does not.
  let pen = null;

  // What is said below the answers' title. An image without answers has none of another's beside it; while its own are on the way
  // the sections stay as high as they are, so that nothing jumps.
  const state = (name, text) => {
    clearTimeout(late);
    const first = name === "asking";
    for (const own of [byId("output"), byId("inside")]) own.style.minHeight = first ? `${own.offsetHeight}px` : "";
    if (!answer) {
      overlay.hidden = true;
      byId("answers").replaceChildren();
      byId("see-label").hidden = true;
      byId("blocks").replaceChildren();
      if (!first) byId("inside").hidden = true;
    }
    document.body.dataset.state = name;
    byId("status").textContent = text;
    byId("again").hidden = name !== "error";
  };

  // What is said about an image, whatever becomes of its answers, after what goes for it as long as it is there.
  let lasting = "";
  const note = (text) => (byId("note").textContent = [lasting, text].filter(Boolean).join(" "));
  const forget = () => {
    lasting = "";
    note("");
  };

  const make = (tag, name, text) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text !== undefined) element.textContent = text;
    return element;
  };

  // What is read of the answer to a request, which `own` ends. Errors have words for whoever sees the page, the server's own where
  // it refuses.
  const get = async (path, read, options, own = new AbortController()) => {
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      own.abort();
    }, PATIENCE);
    const failed = (text) => new Error(late ? `No answer came within ${PATIENCE / 1000} seconds.` : text);
    try {
      let response;
      try {
        response = await fetch(path, { ...options, signal: own.signal });
      } catch {
        throw failed("The server cannot be reached. Is it still running?");
      }
      let value;
      try {
        value = await (response.ok ? read(response) : response.json());
      } catch {
        throw failed("The server's answer could not be read.");
      }
      if (!response.ok) throw Object.assign(new Error(value.error), { status: response.status });
      return value;
    } finally {
      clearTimeout(timer);
    }
  };
  const json = (path, options, own) => get(path, (response) => response.json(), options, own);

  const changed = (pause) => {
    version += 1;
    retries = 0;
    overlay.hidden = true;
    byId("hint").hidden = !empty;
    plan(pause);
  };

  // The time to ask has come only once: `timer` is 0 again then.
  const plan = (pause) => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      timer = 0;
      ask();
    }, pause);
  };

  // What was asked about another image is of no use, nor what was about to be.
  const another = () => {
    clearTimeout(timer);
    timer = 0;
    image += 1;
    picked = null;
    if (asking) asking.abort();
    asking = null;
  };

  const ask = async () => {
    // A drawing that goes on is asked about again once this answer is there.
    if (asking || empty || !model) return;
    const own = new AbortController();
    const [ownImage, ownVersion] = [image, version];
    asking = own;
    if (answer) {
      state("updating", "");
      late = setTimeout(() => state("late", "Asking the network again; these are the answers of before ..."), LATE);
    } else {
      state("asking", "Asking the network ...");
    }
    try {
      const body = file || (await new Promise((done) => canvas.toBlob(done, "image/png")));
      const maps = model.class_maps ? "&maps=true" : "";
      const value = await json(`api/classify?top=10&blocks=true${maps}`, { method: "POST", body }, own);
      strays = value.server && model.server && value.server !== model.server ? strays + 1 : 0;
      if (strays > 0 && strays < 3) return await begin();
      if (ownImage !== image || ownVersion < answered) return;
      answer = value;
      answered = ownVersion;
      retries = 0;
      show();
      // They are tried again with each answer.
      if (!offered) offer().catch(() => {});
    } catch (error) {
      // It may be refused as another server's network has other abilities.
      const other = error.status === 400 && (await replaced());
      if (ownImage !== image) return;
      if (other) {
        await begin();
      } else if (file && [400, 413].includes(error.status)) {
        shrunk(`The server cannot read the file (${error.message})`);
        plan(0);
      } else if (error.status === 503 && retries < 3) {
        retries += 1;
        state(answer ? "late" : "asking", "The server is busy; asking again in a second ...");
        plan(1000);
      } else {
        // Those that are there are of what was drawn before.
        if (answered !== version) answer = null;
        state("error", error.message);
        // Of a pen that goes on, not every move asks again.
        if (pen !== null) plan(1000);
      }
    } finally {
      if (asking === own) {
        asking = null;
        if (ownVersion !== version && !timer) plan(PAUSE);
      }
    }
  };

  // Whether another server has come to the address since the page began with it.
  const replaced = async () => {
    try {
      return (await json("api/model")).server !== model.server;
    } catch {
      return false;
    }
  };

  const percent = (share) => `${(100 * share).toFixed(1)} %`;

  const show = () => {
    state("shown", "");
    const list = byId("answers");
    while (list.children.length > answer.answers.length) list.lastChild.remove();
    answer.answers.forEach((own, index) => {
      if (!list.children[index]) {
        const item = make("li"), button = make("button"), track = make("div", "track");
        button.type = "button";
        button.addEventListener("click", () => pick(Number(item.dataset.class)));
        track.append(make("div", "fill"));
        button.append(make("span", "name"), make("span", "share"), track);
        item.append(button);
        list.append(item);
      }
      const item = list.children[index];
      item.dataset.class = own.class;
      item.dataset.probability = own.probability;
      item.querySelector(".name").textContent = own.name;
      item.querySelector(".share").textContent = percent(own.probability);
      item.querySelector(".fill").style.width = `${100 * own.probability}%`;
      item.querySelector("button").disabled = !model.class_maps;
    });
    showMap();
    showBlocks(answer.blocks || []);
  };

  // A second click on a class goes back to the most likely one.
  const pick = (number) => {
    picked = picked === number ? null : number;
    byId("see").checked = true;
    showMap();
  };

  const showMap = () => {
    if (!answer || !answer.maps) return;
    const shown = answer.answers.find((own) => own.class === picked) || answer.answers[0];
    for (const item of byId("answers").children) {
      const button = item.querySelector("button");
      button.setAttribute("aria-pressed", String(Number(item.dataset.class) === shown.class));
    }
    byId("seen").textContent = `Show in red where the network sees: ${shown.name}`;
    byId("see-label").hidden = false;
    const map = answer.maps.find((own) => own.class === shown.class);
    // A map belongs to the image that it was made of, not to what was drawn since.
    const fits = map && answered === version && pen === null && !empty;
    overlay.hidden = !(fits && byId("see").checked);
    if (fits) {
      overlay.alt = `Where the network sees ${shown.name}`;
      overlay.src = map.image;
    }
  };

  const showBlocks = (blocks) => {
    const all = byId("blocks");
    byId("inside").hidden = blocks.length === 0;
    while (all.children.length > blocks.length) all.lastChild.remove();
    blocks.forEach((block, index) => {
      if (!all.children[index]) {
        const own = make("div", "block");
        own.append(make("h3"), make("p", "ops"), make("div", "tiles"));
        all.append(own);
      }
      const [title, ops, tiles] = all.children[index].children;
      title.textContent = `${block.name}: ${block.shape.join(" \u00d7 ")}`;
      ops.textContent = block.ops.join(" \u2192 ");
      while (tiles.children.length > block.maps.length) tiles.lastChild.remove();
      block.maps.forEach((map, number) => {
        if (!tiles.children[number]) tiles.append(make("img"));
        tiles.children[number].alt = `Map ${number} of block ${block.name}`;
        tiles.children[number].src = map;
      });
    });
  };

  // The canvas as a fresh sheet to draw on, or of an image: black for a network of gray images, as its clothes are bright on black;
  // else white.
  let ground = null;
  const sheet = (width, height, color, image) => {
    ground = image ? null : color;
    canvas.width = width;
    canvas.height = height;
    stage.style.setProperty("--ratio", width / height);
    context.fillStyle = color;
    context.fillRect(0, 0, width, height);
  };
  const gray = () => !model || model.image[0] === 1;
  const paper = () => (gray() ? "#000000" : "#ffffff");
  // What the pen draws with: nothing that cannot be seen on the sheet of a network that was here before.
  const ink = () => {
    const own = gray() ? "#ffffff" : byId("color").value;
    return ground === null || ground === paper() || own !== ground ? own : paper();
  };

  const clear = () => {
    another();
    opened += 1;
    strays = 0;
    pen = null;
    forget();
    file = null;
    empty = true;
    answer = null;
    sheet(DRAWN, DRAWN, paper());
    changed(0);
    byId("label").hidden = true;
    state("empty", "Draw something, or choose an image.");
  };

  // The image is asked about as the canvas shows it, as its file is not for the server.
  const shrunk = (reason) => {
    file = null;
    lasting = `${reason}. The answers are about the image as it is shown here, ${canvas.width} \u00d7 ${canvas.height} pixels.`;
    note("");
  };

  // Whether a file begins as PNG or JPEG files do, whatever its name says.
  const begins = async (blob) => {
    const head = new Uint8Array(await blob.slice(0, 4).arrayBuffer());
    return [[0x89, 0x50, 0x4e, 0x47], [0xff, 0xd8, 0xff]].some((kind) => kind.every((byte, index) => byte === head[index]));
  };

  // Shows an image and asks about it: about the very file, if the server takes it, else about what the canvas shows of it. Until
  // then the former one stays with its answers.
  const open = async (blob, label) => {
    opened += 1;
    const own = opened;
    let known, bitmap;
    try {
      known = await begins(blob);
      bitmap = await createImageBitmap(blob);
    } catch {
      if (own === opened) note("This is no image that can be read here: a PNG or JPEG file is.");
      return;
    }
    if (own !== opened) return;
    another();
    pen = null;
    answer = null;
    state("asking", "Asking the network ...");
    const pixels = bitmap.width * bitmap.height;
    const longest = Math.max(bitmap.width, bitmap.height), times = Math.floor(SHOWN / longest);
    const side = (length) => (times ? length * times : Math.max(Math.floor((length * SHOWN) / longest), 1));
    // What is transparent is on white, as the server has it.
    sheet(side(bitmap.width), side(bitmap.height), "#ffffff", true);
    context.imageSmoothingEnabled = times === 0;
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    empty = false;
    file = blob;
    strays = 0;
    forget();
    if (!known) shrunk("The server reads PNG and JPEG files, which this is not");
    else if (blob.size > model.limits.body) shrunk("The file is larger than the server takes");
    else if (pixels > model.limits.pixels) shrunk("The image has more pixels than the server takes");
    byId("label").hidden = !label;
    byId("label").textContent = label ? `It is: ${label}` : "";
    changed(0);
  };

  const first = (files) => {
    if (!model) return note("The server has not answered yet: try again in a moment.");
    // Some systems give no kind for some files.
    const all = [...(files ?? [])], image = all.find((own) => own.type.startsWith("image/")) ?? all.find((own) => !own.type);
    if (image) open(image);
    else note("There was no image file in this.");
  };

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [
      ((event.clientX - box.left) * canvas.width) / box.width,
      ((event.clientY - box.top) * canvas.height) / box.height,
    ];
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !model || (pen !== null && !event.isPrimary)) return;
    canvas.setPointerCapture(event.pointerId);
    opened += 1;
    forget();
    if (file) {
      // What is drawn on is another image.
      another();
      file = null;
      byId("label").hidden = true;
    }
    pen = event.pointerId;
    empty = false;
    context.strokeStyle = ink();
    context.lineWidth = Number(byId("pen").value);
    context.lineCap = context.lineJoin = "round";
    const [x, y] = place(event);
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(x, y);
    context.stroke();
    changed(PAUSE);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerId !== pen) return;
    for (const one of [...(event.getCoalescedEvents?.() ?? []), event]) context.lineTo(...place(one));
    context.stroke();
    version += 1;
    // The pen moves more often than a pause is long: what is planned stays planned.
    if (!asking && !timer) plan(PAUSE);
  });
  const lift = (event) => {
    if (event.pointerId !== pen) return;
    pen = null;
    if (answered === version) showMap();
    else if (!asking) plan(0);
  };
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);

  byId("clear").addEventListener("click", clear);
  byId("again").addEventListener("click", () => {
    note("");
    if (model && offered) changed(0);
    else begin();
  });
  byId("see").addEventListener("change", showMap);
  // Of a file with two orientations, the server may follow the other one.
  overlay.addEventListener("load", () => {
    const lies = (width, height) => Math.sign(width - height);
    if (!file || lies(overlay.naturalWidth, overlay.naturalHeight) * lies(canvas.width, canvas.height) >= 0) return;
    shrunk("The server turns this image otherwise than the browser");
    changed(0);
  });
  byId("file").addEventListener("change", (event) => {
    if (event.target.files.length > 0) first(event.target.files);
    // The same file may be chosen again.
    event.target.value = "";
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    stage.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || stage.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    stage.classList.remove("over");
    first(event.dataTransfer?.files);
  });
  document.addEventListener("paste", (event) => first(event.clipboardData?.files));

  const offer = async () => {
    const { samples } = await json("api/samples");
    offered = true;
    byId("samples").replaceChildren();
    for (const sample of samples) {
      const button = make("button"), picture = make("img");
      button.type = "button";
      // Not one of another network, and none that the browser kept of it.
      picture.src = `api/samples/${sample.index}${model.server ? `?server=${model.server}` : ""}`;
      picture.alt = sample.label || `Sample ${sample.index}`;
      button.title = picture.alt;
      button.addEventListener("click", async () => {
        opened += 1;
        const own = opened;
        try {
          const blob = await get(picture.src, (response) => response.blob());
          if (own === opened) open(blob, sample.label);
        } catch (error) {
          if (own !== opened) return;
          if (error.status === 409) await begin();
          // Something else may be there since; an empty sheet is what the other network begins with.
          if (own === opened || empty) note(`The image was not opened: ${error.message}`);
        }
      });
      button.append(picture);
      byId("samples").append(button);
    }
    byId("choose").hidden = samples.length === 0;
  };

  // Takes what is there from the server. If another network comes this way, an image stays and is asked about again.
  const begin = async () => {
    try {
      model = await json("api/model");
    } catch (error) {
      state("error", error.message);
      return;
    }
    offered = false;
    const about = [`${model.image.join(" \u00d7 ")} pixels`, `${model.classes.length} classes`];
    // Of a run that has just begun, or was stopped inside of any epoch.
    if (model.data && model.epoch === null) about.push(`for ${model.data}, not the weights of a finished epoch, not tested`);
    else if (model.data) about.push(`trained on ${model.data}`);
    // Older files do not say which images they mean.
    const of = { test: "test accuracy", held_out: "accuracy on held-out training images" };
    if (model.test_acc !== null) about.push(`${of[model.judged_by] || "accuracy"} ${model.test_acc.toFixed(4)}`);
    document.title = `${model.network} - nin`;
    byId("network").textContent = model.network;
    byId("about").textContent = about.join(", ");
    byId("color-label").hidden = gray();
    if (empty) {
      clear();
    } else {
      another();
      answer = null;
      state("asking", "Asking the network ...");
      changed(0);
    }
    try {
      await offer();
    } catch (error) {
      // Without samples it answers all the same.
      if (empty) state("error", error.message);
    }
  };
  sheet(DRAWN, DRAWN, paper());
  begin();
})();
