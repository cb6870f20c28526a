// What a reader does in the atlas: point, choose, colour, hide. The points themselves are drawn by bokeh.
// biome-ignore lint/suspicious/noRedundantUseStrict: a script of a page, no module
'use strict'
const $ = id => document.getElementById(id)
const read = id => JSON.parse($(id).textContent)
const make = (tag, text = '', name = '') =>
  Object.assign(document.createElement(tag), {textContent: text, className: name})
const picture = (src, alt) => Object.assign(make('img'), {src, alt})
const images = n => n.toLocaleString('en')
const REACH = 14    // px: a point no farther from the mouse is meant

Bokeh.embed.embed_item(read('bokeh'), 'map').then(() => {
  const page = read('page'), model = name => Bokeh.documents[0].get_model_by_name(name)
  const plot = model('plot'), points = model('points'), data = points.data_source.data
  const all = Array.from(data.x, (_, i) => i)
  let by = page.colour_by[0], picked = new Set(), visible = all
  const kind = i => data[by][i]
  const when = i => `${data.time_s[i].toFixed(page.digits)} s`

  // ---- what is pointed at
  function nearest(event) {
    const px = plot.inner_width/(plot.x_range.end - plot.x_range.start)
    const py = plot.inner_height/(plot.y_range.end - plot.y_range.start)
    let best = -1, least = REACH*REACH
    for (const i of visible) {
      const d = ((data.x[i] - event.x)*px)**2 + ((data.y[i] - event.y)*py)**2
      if (d < least) [best, least] = [i, d]
    }
    return best
  }
  function ring(name, rows) {
    model(name).data_source.data = {x: rows.map(i => data.x[i]), y: rows.map(i => data.y[i])}
  }
  function hover(event) {
    const i = nearest(event), tip = $('tip')
    $('map').classList.toggle('points', i >= 0)
    ring('pointed', i >= 0 ? [i] : [])
    tip.hidden = i < 0
    if (i < 0) return
    const box = $('map').getBoundingClientRect(), text = make('div')
    text.append(make('b', `${data.subject[i]}, ${data.view[i]}`), make('div', data.action[i]), make('div', when(i)))
    tip.replaceChildren(picture(data.image[i], ''), text)
    const x = box.left + event.sx, y = box.top + event.sy
    tip.style.left = `${x + 18 + tip.offsetWidth > innerWidth ? x - 18 - tip.offsetWidth : x + 18}px`
    tip.style.top = `${Math.max(4, Math.min(y - tip.offsetHeight/2, innerHeight - tip.offsetHeight - 4))}px`
  }

  // ---- the chosen image and its neighbours
  function facts(pairs) {
    const dl = make('dl')
    for (const [name, value] of pairs) dl.append(make('dt', name), make('dd', value))
    return dl
  }
  function card(i, j, distance) {
    const same = data.instant[i] === data.instant[j], button = make('button', '', same ? 'same' : '')
    button.dataset.row = j
    button.title = `${data.subject[j]}, ${data.sequence[j]}, ${when(j)}, ${data.view[j]}`
    const where = make('div')
    where.append(make('b', data.view[j]), ` ${data.subject[j]}`)
    const what = make('div')
    what.append(same ? make('em', 'same instant') : `${when(j)}, ${data.sequence[j]}`)
    const how_far = make('div', `distance ${distance.toFixed(2)}`)
    button.append(picture(data.image[j], button.title), where, what, how_far)
    button.onclick = () => choose(j)
    button.onmouseenter = button.onfocus = () => ring('pointed', [j])
    button.onmouseleave = button.onblur = () => ring('pointed', [])
    const item = make('li')
    item.append(button)
    return item
  }
  function choose(i) {
    const head = make('div', '', 'chosen')
    const known = ['subject', 'view', 'action', 'sequence'].map(name => [name, data[name][i]])
    const table = facts([...known, ['time', when(i)], ['instant', data.instant[i]]])
    head.append(picture(data.image[i], 'the chosen image'), table)
    const parts = [head], found = []
    for (const {title, index, distance} of page.neighbours) {
      const rows = index[i].filter(j => j >= 0), list = make('ol', '', 'near'), heading = make('h2', title)
      const same = rows.filter(j => data.instant[i] === data.instant[j]).length
      const order = same ? `${same} of ${rows.length} show the same instant` : 'nearest first'
      heading.append(make('span', rows.length ? order : 'none'))
      for (const [n, j] of rows.entries()) list.append(card(i, j, distance[i][n]))
      parts.push(heading, list)
      found.push(rows)
    }
    $('chosen').replaceChildren(...parts)
    $('chosen').dataset.row = i
    const near = [...new Set(found.flat())]
    ring('chosen', [i])
    ring('near', near)
    const from = name => near.map(() => data[name][i]), to = name => near.map(j => data[name][j])
    model('lines').data_source.data = {x0: from('x'), y0: from('y'), x1: to('x'), y1: to('y')}
  }

  // ---- colours, and which points are shown
  function show() {
    const subject = $('subject').value
    visible = all.filter(i => (!subject || data.subject[i] === subject) && (!picked.size || picked.has(kind(i))))
    points.view.filter.indices = visible
    const there = new Set($('pictures').checked ? visible : [])
    model('pictures').view.filter.indices = page.pictures.filter(i => there.has(i))    // and that of their frames
    const share = visible.length === all.length ? '' : `${images(visible.length)} of `
    $('count').textContent = `${share}${images(all.length)} images`
  }
  function legend() {
    const entries = page.legends[by], parts = []
    if (Array.isArray(entries)) for (const {name, colour, count} of entries) {
      const button = make('button'), dot = make('i')
      dot.style.background = colour
      button.append(dot, name)
      button.title = `${count} images`
      button.setAttribute('aria-pressed', picked.has(name))
      button.onclick = () => { picked.has(name) ? picked.delete(name) : picked.add(name); legend(); show() }
      parts.push(button)
    } else {
      const bar = make('div', '', 'bar')
      bar.style.background = `linear-gradient(to bottom, ${entries.ramp.join(', ')})`
      const last = make('div', `${entries.high.toFixed(1)} s into the sequence`)
      parts.push(make('div', `${entries.low.toFixed(1)} s`), bar, last)
    }
    $('legend').replaceChildren(...parts)
    $('legend').classList.toggle('some', picked.size > 0)
  }
  function colour() {
    by = $('by').value
    picked = new Set()
    points.glyph.fill_color = {field: `colour_${by}`}
    model('frames').glyph.line_color = {field: `colour_${by}`}
    legend()
    show()
  }
  for (const {name} of page.legends.subject) $('subject').append(Object.assign(make('option', name), {value: name}))
  $('by').onchange = colour
  $('subject').onchange = $('pictures').onchange = show
  function fit() {    // the whole map, to one scale in both directions
    const width = plot.inner_width, height = plot.inner_height
    if (!(width > 0 && height > 0)) return
    const scale = 1.08*Math.max(page.extent[0]/width, page.extent[1]/height)
    for (const [range, px] of [[plot.x_range, width], [plot.y_range, height]]) {
      [range.start, range.end] = [-scale*px/2, scale*px/2]
    }
  }
  $('reset').onclick = () => {
    fit()
    $('subject').value = ''
    picked = new Set()
    legend()
    show()
  }
  plot.on_event('mousemove', hover)
  plot.on_event('mouseleave', () => { $('tip').hidden = true; ring('pointed', []) })
  plot.on_event('tap', event => { const i = nearest(event); if (i >= 0) choose(i) })
  new ResizeObserver(() => requestAnimationFrame(fit)).observe($('map'))
  colour()
  choose(page.first)
  fit()
  document.body.dataset.ready = 'true'
})
