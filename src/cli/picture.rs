//! The picture of recovery: how many declined charges had been paid by each day, by machine and by link.

use std::fmt::Write as _;

use crate::flows::figures::Recovery;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 56.0;
const TOP: f64 = 48.0;
const PLOT_WIDTH: f64 = 640.0;
const PLOT_HEIGHT: f64 = 250.0;
/// Two colours that people with any colour vision tell apart, on light and on dark.
const MACHINE: &str = "#3b7dd8";
const LINK: &str = "#e8963a";

/// An SVG with its own background for light and dark, readable without colours: every bar has a title.
#[expect(clippy::cast_precision_loss, reason = "a picture, not money")]
pub(super) fn recovery(figures: &Recovery) -> String {
    let decided = (figures.cases - figures.open).max(1) as f64;
    let days = figures.days.len().max(1);
    let slot = PLOT_WIDTH / days as f64;
    let mut svg = String::new();
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <title>Declined charges that were paid, by day after the first decline</title>\n\
         <style>.b{{fill:#fff}}.t{{fill:#222}}.l{{stroke:#ccc}}\
         @media(prefers-color-scheme:dark){{.b{{fill:#181818}}.t{{fill:#ddd}}.l{{stroke:#444}}}}</style>\n\
         <rect class=\"b\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n\
         <text class=\"t\" x=\"{LEFT}\" y=\"22\" font-size=\"15\">Share of {decided} decided charges paid by day n after the first decline</text>\n"
    );
    for tenth in [0.0_f64, 0.25, 0.5, 0.75, 1.0] {
        let y = TOP + PLOT_HEIGHT * (1.0 - tenth);
        let (right, label_x, label_y) = (LEFT + PLOT_WIDTH, LEFT - 8.0, y + 4.0);
        let _ = writeln!(
            svg,
            "<line class=\"l\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>\
             <text class=\"t\" x=\"{label_x}\" y=\"{label_y:.1}\" text-anchor=\"end\">{:.0} %</text>",
            tenth * 100.0
        );
    }
    let (mut machine, mut link) = (0, 0);
    for (number, day) in figures.days.iter().enumerate() {
        machine += day.by_machine;
        link += day.by_link;
        let x = LEFT + slot * number as f64 + slot * 0.1;
        let heights = [machine, link].map(|count| PLOT_HEIGHT * count as f64 / decided);
        let machine_y = TOP + PLOT_HEIGHT - heights[0];
        let bars = [
            (machine_y, heights[0], MACHINE, machine, "by retry"),
            (machine_y - heights[1], heights[1], LINK, link, "by link"),
        ];
        for (y, height, color, count, how) in bars {
            let _ = write!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"{color}\">\
                 <title>by day {number}: {count} {how}</title></rect>",
                slot * 0.8
            );
        }
        if number % 5 == 0 || days < 12 {
            let (x, y) = (x + slot * 0.4, TOP + PLOT_HEIGHT + 18.0);
            let _ = write!(
                svg,
                "<text class=\"t\" x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{number}</text>"
            );
        }
        svg.push('\n');
    }
    for (at, color, what) in
        [(0.0, MACHINE, format!("by retry: {machine}")), (160.0, LINK, format!("by link: {link}"))]
    {
        let (x, y) = (LEFT + at, TOP + PLOT_HEIGHT + 34.0);
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{y}\" width=\"12\" height=\"12\" fill=\"{color}\"/><text class=\"t\" x=\"{}\" y=\"{}\">{what}</text>",
            x + 18.0,
            y + 11.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}
