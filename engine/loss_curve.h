#pragma once

#include <string>
#include <vector>

namespace deepflow {

struct CurvePoint {
  double x, y;
};
struct Curve {
  std::string name;
  std::vector<CurvePoint> points;
  bool with_dots = false;  // few points, each worth seeing
};

// A picture of curves over a common x axis as SVG, 800 x 480, with grid, axes and legend. Points that are not finite
// are left out.
std::string curves_as_svg(const std::string& title, const std::string& x_name, const std::string& y_name,
                          const std::vector<Curve>& curves);

}  // namespace deepflow
