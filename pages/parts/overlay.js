// A photograph with its anomaly map, drawn in the browser: sliding costs no network and no rerun.
//
// data: { photo, width, height, map: {w, h, bytes} | null, top, ramp, words, alt, heat_alt, controls, legend }
//   map.bytes: base64 of w*h bytes; a byte b means a ratio of b / 255 * top, 255 also stands for all above.
//   ramp: base64 of 256 RGB colours.  photo: a data URL, or null when only the controls are wanted.
// View, opacity and outline are shared by all overlays of the tab, so that pictures are always compared alike,
// and they outlive reruns and page switches.

const shared = (globalThis[Symbol.for("adlib.overlay")] ??= {
  view: "overlay", opacity: 60, line: 1, mounted: new Set(),
})
const instances = new WeakMap()
const VIEWS = ["original", "overlay", "map"]

function decode(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))
}

// The map as a small picture: colour from the ramp, and opacity growing with the ratio's fourth power up to the
// threshold, so that normal textures look as they are; as in the downloads (`adlib.overlays`).
function painted(ratios, w, h, ramp, top, solid) {
  const canvas = document.createElement("canvas")
  canvas.width = w
  canvas.height = h
  const context = canvas.getContext("2d")
  const image = context.createImageData(w, h)
  for (let i = 0; i < ratios.length; i++) {
    const value = ratios[i]
    image.data[4 * i] = ramp[3 * value]
    image.data[4 * i + 1] = ramp[3 * value + 1]
    image.data[4 * i + 2] = ramp[3 * value + 2]
    image.data[4 * i + 3] = solid ? 255 : 255 * Math.min(1, (value / 255) * top) ** 4
  }
  context.putImageData(image, 0, 0)
  return canvas
}

// Where the map crosses `level`, as a path in map cells (marching squares with straight interpolation).
function outline(ratios, w, h, level) {
  const path = new Path2D()
  const cut = (x, y, dx, dy, a, b) => [x + dx * (a / (a - b)) + 0.5, y + dy * (a / (a - b)) + 0.5]
  for (let y = 0; y < h - 1; y++) {
    for (let x = 0; x < w - 1; x++) {
      const a = ratios[y * w + x] - level, b = ratios[y * w + x + 1] - level
      const c = ratios[(y + 1) * w + x] - level, d = ratios[(y + 1) * w + x + 1] - level
      if (a < 0 === b < 0 && c < 0 === d < 0 && a < 0 === c < 0) continue
      const cuts = []
      if (a < 0 !== b < 0) cuts.push(cut(x, y, 1, 0, a, b))
      if (b < 0 !== d < 0) cuts.push(cut(x + 1, y, 0, 1, b, d))
      if (c < 0 !== d < 0) cuts.push(cut(x, y + 1, 1, 0, c, d))
      if (a < 0 !== c < 0) cuts.push(cut(x, y, 0, 1, a, c))
      for (let i = 0; i + 1 < cuts.length; i += 2) {
        path.moveTo(...cuts[i])
        path.lineTo(...cuts[i + 1])
      }
    }
  }
  return path
}

class Overlay {
  constructor(root) {
    this.root = root
    this.find = (selector) => root.querySelector(selector)
    this.observer = new ResizeObserver(() => this.draw())
    this.observer.observe(this.find(".stage"))
    this.listen()
  }

  update(data) {
    const { map, words } = data
    this.data = data
    this.find(".stage").hidden = !data.photo
    this.find(".legend").hidden = !data.legend
    this.find(".controls").hidden = !data.controls
    if (data.photo) {
      const photo = this.find(".photo")
      if (photo.src !== data.photo) photo.src = data.photo
      photo.alt = data.alt
      this.find(".heat").setAttribute("aria-label", data.heat_alt)
      // As wide as the column allows, and never so tall that picture and controls do not fit the window together.
      const widest = `min(100%, ${((70 * data.width) / data.height).toFixed(2)}vh)`
      this.find(".stage").style.cssText = `aspect-ratio: ${data.width} / ${data.height}; width: ${widest}`
    }
    if (map && map.bytes !== this.bytes) {
      this.bytes = map.bytes
      this.ratios = decode(map.bytes)
      this.path = null
    }
    const ramp = decode(data.ramp)
    if (map) {
      this.tinted = painted(this.ratios, map.w, map.h, ramp, data.top, false)
      this.solid = painted(this.ratios, map.w, map.h, ramp, data.top, true)
    }
    this.legend(ramp, data.top, words)
    this.label(words)
    this.draw()
  }

  legend(ramp, top, words) {
    const canvas = this.find(".ramp")
    const context = canvas.getContext("2d")
    const image = context.createImageData(256, 1)
    for (let i = 0; i < 256; i++) image.data.set([ramp[3 * i], ramp[3 * i + 1], ramp[3 * i + 2], 255], 4 * i)
    context.putImageData(image, 0, 0)
    canvas.setAttribute("aria-label", words.legend)
    const ticks = []
    for (let value = 0; value <= top; value += top / 4) {
      const tick = document.createElement("span")
      tick.textContent = value === top ? `≥ ${value}×` : `${value}×`
      tick.className = value === 1 ? "one" : value % 1 ? "between" : ""
      if (value === 1) {
        const more = document.createElement("span")
        more.className = "more"
        more.textContent = ` = ${words.one}`
        tick.append(more)
      }
      tick.style.left = `${(100 * value) / top}%`
      ticks.push(tick)
    }
    this.find(".ticks").replaceChildren(...ticks)
  }

  label(words) {
    const group = this.find(".views")
    group.setAttribute("aria-label", words.view)
    if (group.childElementCount === 0) {
      for (const view of VIEWS) {
        const label = document.createElement("label")
        const radio = Object.assign(document.createElement("input"), { type: "radio", name: "view", value: view })
        radio.onchange = () => change({ view })
        label.append(radio, document.createElement("span"))
        group.append(label)
      }
    }
    group.querySelectorAll("span").forEach((span, i) => (span.textContent = words[VIEWS[i]]))
    this.find(".slide:has(.opacity) .name").textContent = words.opacity
    this.find(".slide:has(.line) .name").textContent = words.line
  }

  listen() {
    this.find(".opacity").oninput = (event) => change({ opacity: Number(event.target.value) })
    this.find(".line").oninput = (event) => change({ line: Number(event.target.value) })
    this.find(".photo").onload = () => this.draw()
    const heat = this.find(".heat")
    heat.onpointermove = heat.onpointerdown = (event) => {
      const box = heat.getBoundingClientRect()
      this.point((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height)
    }
    // A finger that is lifted leaves at once: what it asked for stays until the next touch elsewhere.
    heat.onpointerleave = (event) => event.pointerType === "touch" || this.point(null)
    heat.onblur = () => this.point(null)
    heat.onkeydown = (event) => {
      const step = event.shiftKey ? 0.1 : 0.02
      const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key]
      if (event.key === "Escape") this.point(null)
      if (!move) return
      event.preventDefault()
      const [x, y] = this.at ?? [0.5, 0.5]
      this.point(x + move[0], y + move[1])
    }
  }

  // The value at (x, y), both from 0 to 1 over the picture, in words beside the pointer and as a pin on the legend.
  point(x, y) {
    const bubble = this.find(".bubble"), pin = this.find(".pin"), map = this.data?.map
    const inside = x !== null && map && shared.view !== "original"
    bubble.hidden = pin.hidden = !inside
    this.at = inside ? [Math.min(Math.max(x, 0), 0.9999), Math.min(Math.max(y, 0), 0.9999)] : null
    if (!inside) return this.draw()
    const [u, v] = this.at
    const byte = this.ratios[Math.floor(v * map.h) * map.w + Math.floor(u * map.w)]
    const ratio = (byte / 255) * this.data.top
    const { clipped, value } = this.data.words
    bubble.textContent = byte === 255 ? clipped.replace("{x}", this.data.top) : value.replace("{x}", ratio.toFixed(2))
    bubble.style.left = u < 0.5 ? `calc(${100 * u}% + 0.75rem)` : "auto"
    bubble.style.right = u < 0.5 ? "auto" : `calc(${100 - 100 * u}% + 0.75rem)`
    bubble.style.top = v < 0.5 ? `calc(${100 * v}% + 0.75rem)` : "auto"
    bubble.style.bottom = v < 0.5 ? "auto" : `calc(${100 - 100 * v}% + 0.75rem)`
    pin.style.left = `${(100 * byte) / 255}%`
    this.draw()
  }

  draw() {
    if (!this.data) return
    this.show()
    const { photo, map } = this.data
    if (!photo || !map) return
    const canvas = this.find(".heat"), dots = window.devicePixelRatio || 1
    const box = canvas.getBoundingClientRect()
    const width = Math.max(1, Math.round(box.width * dots)), height = Math.max(1, Math.round(box.height * dots))
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height })
    const context = canvas.getContext("2d")
    context.clearRect(0, 0, width, height)
    if (shared.view === "original") return
    context.imageSmoothingEnabled = true
    context.globalAlpha = shared.view === "map" ? 1 : shared.opacity / 100
    context.drawImage(shared.view === "map" ? this.solid : this.tinted, 0, 0, width, height)
    context.globalAlpha = 1
    this.stroke(context, width / map.w, height / map.h, dots)
    if (this.at) this.ring(context, this.at[0] * width, this.at[1] * height, dots)
  }

  stroke(context, across, down, dots) {
    const { map, top } = this.data
    if (!this.path || this.level !== shared.line) {
      this.level = shared.line
      this.path = outline(this.ratios, map.w, map.h, (shared.line / top) * 255)
    }
    const scaled = new Path2D()
    scaled.addPath(this.path, new DOMMatrix([across, 0, 0, down, 0, 0]))
    context.lineJoin = context.lineCap = "round"
    for (const [width, colour] of [[4, "#000"], [2, "#fff"]]) {
      context.lineWidth = width * dots
      context.strokeStyle = colour
      context.stroke(scaled)
    }
  }

  ring(context, x, y, dots) {
    for (const [width, colour] of [[4, "#000"], [2, "#fff"]]) {
      context.lineWidth = width * dots
      context.strokeStyle = colour
      context.beginPath()
      context.arc(x, y, 5 * dots, 0, 7)
      context.stroke()
    }
  }

  // Puts the shared choices into this overlay's own controls.
  show() {
    const { words } = this.data
    this.find(".photo").style.visibility = shared.view === "map" ? "hidden" : "visible"
    for (const radio of this.root.querySelectorAll(".views input")) radio.checked = radio.value === shared.view
    const opacity = this.find(".opacity"), line = this.find(".line")
    opacity.value = shared.opacity
    opacity.disabled = shared.view !== "overlay"
    opacity.nextElementSibling.textContent = `${shared.opacity} %`
    line.value = shared.line
    line.disabled = shared.view === "original"
    line.nextElementSibling.textContent = `${shared.line.toFixed(2)}×`
    line.setAttribute("aria-valuetext", words.value.replace("{x}", shared.line.toFixed(2)))
    opacity.setAttribute("aria-valuetext", `${shared.opacity} %`)
  }
}

function change(choice) {
  Object.assign(shared, choice)
  for (const overlay of shared.mounted) overlay.draw()
}

export default function ({ data, parentElement }) {
  let overlay = instances.get(parentElement)
  if (!overlay) {
    overlay = new Overlay(parentElement)
    instances.set(parentElement, overlay)
    shared.mounted.add(overlay)
  }
  overlay.update(data)
  return () => {
    overlay.observer.disconnect()
    shared.mounted.delete(overlay)
    instances.delete(parentElement)
  }
}
