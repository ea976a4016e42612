#include "engine/loss_curve.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace deepflow {
namespace {

constexpr double kWidth = 800, kHeight = 480, kLeft = 64, kRight = 24, kTop = 44, kBottom = 52;
constexpr const char* kColours[] = {"#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e"};

struct Range {
  double low = INFINITY, high = -INFINITY;
  void include(double v) {
    low = std::min(low, v);
    high = std::max(high, v);
  }
};

bool is_finite(const CurvePoint& p) { return std::isfinite(p.x) && std::isfinite(p.y); }

// A step of 1, 2 or 5 times a power of ten that divides the range in about `wanted` parts.
double tick_step(const Range& range, int wanted) {
  const double raw = (range.high - range.low) / wanted, power = std::pow(10, std::floor(std::log10(raw)));
  for (const double m : {1.0, 2.0, 5.0})
    if (raw <= m * power) return m * power;
  return 10 * power;
}

class Plot {
 public:
  Plot(const Range& x, const Range& y) : x_(x), y_(y) {}
  double at_x(double x) const { return kLeft + (x - x_.low) / (x_.high - x_.low) * (kWidth - kLeft - kRight); }
  double at_y(double y) const {
    return kHeight - kBottom - (y - y_.low) / (y_.high - y_.low) * (kHeight - kTop - kBottom);
  }

  std::string grid() const {
    std::string out;
    const double dx = tick_step(x_, 8), dy = tick_step(y_, 6);
    for (double x = std::ceil(x_.low / dx) * dx; x <= x_.high + dx * 1e-9; x += dx)
      out += fmt::format(
          "<line x1='{0:.1f}' x2='{0:.1f}' y1='{1}' y2='{2}' stroke='#e4e4e4'/>"
          "<text x='{0:.1f}' y='{3}' text-anchor='middle'>{4:g}</text>\n",
          at_x(x), kTop, kHeight - kBottom, kHeight - kBottom + 18, x);
    for (double y = std::ceil(y_.low / dy) * dy; y <= y_.high + dy * 1e-9; y += dy)
      out += fmt::format(
          "<line x1='{1}' x2='{2}' y1='{0:.1f}' y2='{0:.1f}' stroke='#e4e4e4'/>"
          "<text x='{3}' y='{4:.1f}' text-anchor='end'>{5:.4g}</text>\n",
          at_y(y), kLeft, kWidth - kRight, kLeft - 8, at_y(y) + 4, std::abs(y) < dy * 1e-6 ? 0.0 : y);
    return out;
  }

  std::string line(const Curve& curve, const char* colour) const {
    std::string points, dots;
    for (const CurvePoint& p : curve.points) {
      if (!is_finite(p)) continue;
      points += fmt::format("{:.1f},{:.1f} ", at_x(p.x), at_y(p.y));
      if (curve.with_dots)
        dots += fmt::format("<circle cx='{:.1f}' cy='{:.1f}' r='3.5' fill='{}'/>", at_x(p.x), at_y(p.y), colour);
    }
    return fmt::format("<polyline fill='none' stroke='{}' stroke-width='1.6' points='{}'/>{}\n", colour, points, dots);
  }

 private:
  Range x_, y_;
};

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) out += c == '<' ? "&lt;" : c == '&' ? "&amp;" : std::string(1, c);
  return out;
}

}  // namespace

std::string curves_as_svg(const std::string& title, const std::string& x_name, const std::string& y_name,
                          const std::vector<Curve>& curves) {
  Range x, y;
  for (const Curve& c : curves)
    for (const CurvePoint& p : c.points)
      if (is_finite(p)) {
        x.include(p.x);
        y.include(p.y);
      }
  if (!(x.low < x.high)) x = {std::isfinite(x.low) ? x.low : 0, (std::isfinite(x.low) ? x.low : 0) + 1};
  if (!(y.low < y.high)) y = {std::isfinite(y.low) ? y.low - 0.5 : 0, std::isfinite(y.low) ? y.low + 0.5 : 1};
  const Plot plot(x, y);
  std::string out = fmt::format(
      "<svg xmlns='http://www.w3.org/2000/svg' width='{0}' height='{1}' viewBox='0 0 {0} {1}' "
      "font-family='sans-serif' font-size='12'>\n<rect width='100%' height='100%' fill='white'/>\n"
      "<text x='{2}' y='24' font-size='16'>{3}</text>\n",
      kWidth, kHeight, kLeft, escaped(title));
  out += plot.grid();
  out += fmt::format("<text x='{:.0f}' y='{}' text-anchor='middle'>{}</text>\n", (kLeft + kWidth - kRight) / 2,
                     kHeight - 14, escaped(x_name));
  out += fmt::format("<text transform='translate(18 {:.0f}) rotate(-90)' text-anchor='middle'>{}</text>\n",
                     (kTop + kHeight - kBottom) / 2, escaped(y_name));
  for (size_t i = 0; i < curves.size(); ++i) {
    const char* colour = kColours[i % std::size(kColours)];
    out += plot.line(curves[i], colour);
    const double row = kTop + 18 + 18 * static_cast<double>(i);
    out += fmt::format("<rect x='{}' y='{}' width='14' height='4' fill='{}'/><text x='{}' y='{}'>{}</text>\n",
                       kWidth - 220, row - 5, colour, kWidth - 200, row, escaped(curves[i].name));
  }
  return out + "</svg>\n";
}

}  // namespace deepflow
