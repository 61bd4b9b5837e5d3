"""Line plots as SVG, without a library: a few series over logarithmic axes."""

import math

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 36, 44
COLOURS = ("#1f5fa8", "#c4501b", "#2f7d32", "#7b3fa0", "#8a6d00", "#00798c")


def escaped(text):
    return (str(text).replace("&", "&amp;").replace("<", "&lt;")
            .replace(">", "&gt;"))


def short(v):
    for size, mark in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if v >= size:
            return "%g%s" % (v / size, mark)
    return "%g" % v


class Axis:
    """Values from LOW to HIGH, rounded out to decades, on FROM to TO."""

    def __init__(self, values, start, end):
        values = [v for v in values if v > 0] or [1]
        self.low = math.floor(math.log10(min(values)))
        self.high = max(math.ceil(math.log10(max(values))), self.low + 1)
        self.start, self.end = start, end

    def at(self, value):
        share = (math.log10(max(value, 10.0 ** self.low)) - self.low) / (
            self.high - self.low)
        return self.start + share * (self.end - self.start)

    def decades(self):
        return [10.0 ** n for n in range(self.low, self.high + 1)]


def plot(path, title, x_name, y_name, series):
    """SERIES: {name: [(x, y), ...]}; points without a y are left out."""
    series = {name: [(x, y) for x, y in points if y is not None]
              for name, points in series.items()}
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    if not xs:
        return
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    x_axis, y_axis = Axis(xs, LEFT, right), Axis(ys, bottom, TOP)
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" '
           'font-family="sans-serif" font-size="12">' % (WIDTH, HEIGHT),
           '<rect width="%d" height="%d" fill="#fff"/>' % (WIDTH, HEIGHT)]

    def text(x, y, what, anchor="middle", more=""):
        out.append('<text x="%.1f" y="%.1f" text-anchor="%s" fill="#222"%s>%s'
                   '</text>' % (x, y, anchor, more, escaped(what)))

    text((LEFT + right) / 2, 20, title, more=' font-weight="bold"')
    text((LEFT + right) / 2, HEIGHT - 8, x_name)
    text(14, (TOP + bottom) / 2, y_name, more=' transform="rotate(-90 14 %.1f)"'
         % ((TOP + bottom) / 2))
    for v in x_axis.decades():
        out.append('<path d="M%.1f %dV%d" stroke="#ddd"/>' % (
            x_axis.at(v), TOP, bottom))
        text(x_axis.at(v), bottom + 16, short(v))
    for v in y_axis.decades():
        out.append('<path d="M%d %.1fH%d" stroke="#ddd"/>' % (
            LEFT, y_axis.at(v), right))
        text(LEFT - 6, y_axis.at(v) + 4, short(v), "end")
    for i, (name, points) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        places = [(x_axis.at(x), y_axis.at(y)) for x, y in sorted(points)]
        out.append('<polyline fill="none" stroke="%s" stroke-width="2" '
                   'points="%s"/>' % (colour, " ".join(
                       "%.1f,%.1f" % p for p in places)))
        out += ['<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>' % (
            x, y, colour) for x, y in places]
        y = TOP + 12 + 18 * i
        out.append('<path d="M%d %dh16" stroke="%s" stroke-width="3"/>' % (
            right + 10, y - 4, colour))
        text(right + 32, y, name, "start")
    out.append("</svg>")
    with open(path, "w") as f:
        f.write("\n".join(out) + "\n")
