#include "engine/schedule_picture.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace deepflow {
namespace {

constexpr double kLeft = 64, kRight = 84, kTop = 66, kRow = 30, kBox = 26, kPanelGap = 64;
constexpr double kBoxWidth = 22, kLeastWidth = 640, kMostWidth = 4000;  // of the shortest action; of a panel

struct Colour {
  int r, g, b;
};
struct Legend {
  const char* name;
  Colour colour;
};
constexpr std::array<Legend, 4> kLegend = {{{"F", {86, 148, 222}},
                                            {"B input gradient", {78, 182, 120}},
                                            {"W weight gradient", {232, 170, 72}},
                                            {"BW both", {66, 176, 178}}}};

Colour colour_of(const ComputePart& part) { return kLegend[part.f ? 0 : part.b && part.w ? 3 : part.b ? 1 : 2].colour; }

std::string text_of(const Colour& c, double white) {
  const auto mix = [&](int v) { return static_cast<int>(v + (255 - v) * white); };
  return fmt::format("#{:02x}{:02x}{:02x}", mix(c.r), mix(c.g), mix(c.b));
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) out += c == '<' ? "&lt;" : c == '&' ? "&amp;" : std::string(1, c);
  return out;
}

double shortest_action(const ScheduleTimes& times) {
  double shortest = INFINITY;
  for (const auto& list : times.of_rank)
    for (const TimedAction& a : list)
      if (is_compute(a.action.what) && a.end > a.begin) shortest = std::min(shortest, a.end - a.begin);
  return shortest;
}

double width_of(const ScheduleTimes& planned) {
  const double boxes = planned.duration() / shortest_action(planned);
  return std::isfinite(boxes) ? std::clamp(boxes * kBoxWidth, kLeastWidth, kMostWidth) : kLeastWidth;
}

// A step of 1, 2 or 5 times a power of ten that divides the duration in about ten parts.
double tick_step(double duration) {
  const double raw = duration / 10, power = std::pow(10, std::floor(std::log10(raw)));
  for (const double m : {1.0, 2.0, 5.0})
    if (raw <= m * power) return m * power;
  return 10 * power;
}

class PanelPicture {
 public:
  PanelPicture(const Schedule& schedule, const SchedulePanel& panel, double top, double width)
      : schedule_(schedule), panel_(panel), top_(top), width_(width), begin_(panel.times.begin()) {
    const double duration = panel.times.duration();
    scale_ = duration > 0 ? width / duration : 1;
  }

  double height() const { return kRow * panel_.times.num_ranks(); }

  std::string draw() const {
    std::string out =
        fmt::format("<text x='{}' y='{:.0f}' font-size='14'>{}: {:.5g}{}{} a step, bubble {:.2f} %</text>\n", kLeft,
                    top_ - 10, escaped(panel_.title), panel_.times.duration() / panel_.unit,
                    panel_.unit_name.empty() ? "" : " ", panel_.unit_name, 100 * panel_.times.bubble());
    out += axis();
    for (int rank = 0; rank < panel_.times.num_ranks(); ++rank) out += row(rank);
    return out;
  }

 private:
  double x(double time) const { return kLeft + (time - begin_) * scale_; }

  std::string axis() const {
    const double duration = panel_.times.duration() / panel_.unit;
    if (!(duration > 0)) return "";
    const double step = tick_step(duration), bottom = top_ + height();
    std::string out;
    for (double t = 0; t <= duration * (1 + 1e-9); t += step)
      out += fmt::format(
          "<line x1='{0:.1f}' x2='{0:.1f}' y1='{1:.0f}' y2='{2:.0f}' stroke='#e4e4e4'/>"
          "<text x='{0:.1f}' y='{3:.0f}' text-anchor='middle' fill='#606060'>{4:g}</text>\n",
          x(begin_ + t * panel_.unit), top_, bottom, bottom + 16, t);
    return out;
  }

  std::string row(int rank) const {
    const double y = top_ + kRow * rank;
    std::string out = fmt::format(
        "<text x='{}' y='{:.0f}' text-anchor='end'>rank {}</text><text x='{:.0f}' y='{:.0f}' "
        "fill='#606060'>{:.2f} %</text>\n",
        kLeft - 8, y + 18, rank, kLeft + width_ + 8, y + 18, 100 * panel_.times.bubble(rank));
    for (const TimedAction& a : panel_.times.of_rank[static_cast<size_t>(rank)])
      if (is_compute(a.action.what)) out += box(rank, a, y);
    return out;
  }

  std::string box(int rank, const TimedAction& a, double y) const {
    const std::vector<ComputePart> parts = parts_of(a.action);
    const double height = kBox / static_cast<double>(parts.size()), width = (a.end - a.begin) * scale_;
    std::string out = fmt::format("<g><title>rank {}: {}, {:.5g} to {:.5g}</title>", rank, name_of(a.action),
                                  (a.begin - begin_) / panel_.unit, (a.end - begin_) / panel_.unit);
    for (size_t i = 0; i < parts.size(); ++i) {
      const double top = y + 2 + height * static_cast<double>(i);
      out += fmt::format(
          "<rect x='{:.2f}' y='{:.1f}' width='{:.2f}' height='{:.1f}' fill='{}' stroke='white' stroke-width='0.5'/>",
          x(a.begin), top, width, height, text_of(colour_of(parts[i]), lightness(rank, parts[i].chunk)));
      const std::string number = std::to_string(parts[i].micro_batch);
      if (width >= 6.0 * static_cast<double>(number.size()) + 2)
        out += fmt::format("<text x='{:.2f}' y='{:.1f}' text-anchor='middle' font-size='10'>{}</text>",
                           x(a.begin) + width / 2, top + height / 2 + 3.5, number);
    }
    return out + "</g>\n";
  }

  double lightness(int rank, int chunk) const {
    const std::vector<int> chunks = schedule_.chunks_of(rank);
    const auto turn = std::find(chunks.begin(), chunks.end(), chunk) - chunks.begin();
    if (chunks.size() < 2) return 0.2;
    return 0.6 * (1 - static_cast<double>(turn) / static_cast<double>(chunks.size() - 1));
  }

  const Schedule& schedule_;
  const SchedulePanel& panel_;
  const double top_, width_, begin_;
  double scale_ = 1;
};

std::string legend() {
  std::string out;
  double x = kLeft;
  for (const Legend& entry : kLegend) {
    out += fmt::format("<rect x='{0}' y='34' width='12' height='12' fill='{1}'/><text x='{2}' y='44'>{3}</text>\n", x,
                       text_of(entry.colour, 0.2), x + 17, entry.name);
    x += 150;
  }
  out += fmt::format("<text x='{}' y='44' fill='#606060'>lighter: an earlier chunk of the rank</text>\n", x);
  return out;
}

}  // namespace

std::string schedule_as_svg(const std::string& title, const Schedule& schedule,
                            const std::vector<SchedulePanel>& panels) {
  const double width = panels.empty() ? kLeastWidth : width_of(panels.front().times);
  std::string body;
  double top = kTop + 20;
  for (const SchedulePanel& panel : panels) {
    const PanelPicture picture(schedule, panel, top, width);
    body += picture.draw();
    top += picture.height() + kPanelGap;
  }
  return fmt::format(
             "<svg xmlns='http://www.w3.org/2000/svg' width='{0:.0f}' height='{1:.0f}' viewBox='0 0 {0:.0f} {1:.0f}' "
             "font-family='sans-serif' font-size='12'>\n<rect width='100%' height='100%' fill='white'/>\n"
             "<text x='{2}' y='22' font-size='16'>{3}</text>\n",
             kLeft + width + kRight, top - kPanelGap / 2, kLeft, escaped(title)) +
         legend() + body + "</svg>\n";
}

}  // namespace deepflow
