package bench

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
)

// plot compares one kind of figure over all rows that have it.
type plot struct {
	file, title string
	names       []string // the first of these that a row has
	better      string   // which side of etcd is the better one
}

var plots = []plot{
	{"cpu.svg", "Server CPU per operation", []string{"server_us_per_op", "server_us_per_event", "server_cores"}, "left"},
	{"rate.svg", "Operations per second", []string{"ops_per_s", "events_per_s", "puts_per_s"}, "right"},
	{"p99.svg", "99th percentile of latency", []string{"p99_us", "during_p99_us", "update_p99_us", "put_p99_us", "kill_gap_p50_ms", "killed_answer_s"}, "left"},
	{"anonymous.svg", "Anonymous memory", []string{"anonymous_max_mb", "anonymous_mb", "stopped_settled_mb", "group_peak_mb"}, "left"},
	{"disk.svg", "Disk", []string{"disk_mb"}, "left"},
}

// The page in points: a line for each row, with its name, a field with the bar, and both figures. The field spans factors of 1/spanMax to spanMax on
// a logarithmic scale; what lies beyond ends at the edge.
const (
	lineHeight, headHeight     = 20, 56
	nameWidth, fieldWidth      = 170, 400
	figureWidth                = 250
	spanMax                    = 16.0
	oursBetter, worse, neutral = "#2a7f62", "#c0502e", "#888888"
)

// plot draws p as SVG: per row the ratio of ours to etcd's, from the middle, which is etcd; nil when no row has it.
func (r *report) plot(p plot) []byte {
	var body bytes.Buffer
	y := headHeight
	for _, row := range rows() {
		name, own, other, has := r.both(row.name, p.names)
		if !has {
			continue
		}
		drawRow(&body, y, p, row.name, name, own, other)
		y += lineHeight
	}
	if y == headHeight {
		return nil
	}
	var out bytes.Buffer
	width, height := nameWidth+fieldWidth+figureWidth, y+12
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n",
		width, height, width, height)
	fmt.Fprintf(&out, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", width, height)
	writeText(&out, 8, 20, "start", "bold", p.title+", Holdfast's as a multiple of etcd's ("+p.better+" is better)")
	for f := 1 / spanMax; f <= spanMax; f *= 2 {
		x, colour := xOf(f), "#dddddd"
		if f == 1 {
			colour = "#333333"
		}
		fmt.Fprintf(&out, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s"/>`+"\n", x, headHeight-8, x, y, colour)
		writeText(&out, x, headHeight-14, "middle", "normal", factor(f))
	}
	out.Write(body.Bytes())
	out.WriteString("</svg>\n")
	return out.Bytes()
}

// both finds the first of names that the row has on both sides.
func (r *report) both(row string, names []string) (name string, own, other spread, has bool) {
	for _, name := range names {
		a, b := r.values(row, name, ours), r.values(row, name, theirs)
		if len(a) > 0 && len(b) > 0 && spreadOf(a).median > 0 && spreadOf(b).median > 0 {
			return name, spreadOf(a), spreadOf(b), true
		}
	}
	return "", spread{}, spread{}, false
}

func drawRow(out *bytes.Buffer, y int, p plot, row, name string, own, other spread) {
	ratio := own.median / other.median
	colour := neutral
	switch {
	case (p.better == "left") == (ratio < 0.95) && (ratio < 0.95 || ratio > 1.05):
		colour = oursBetter
	case ratio < 0.95 || ratio > 1.05:
		colour = worse
	}
	middle := float64(y) + lineHeight/2
	from, to := min(xOf(1), xOf(ratio)), max(xOf(1), xOf(ratio))
	fmt.Fprintf(out, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", from, y+4, max(1, to-from), lineHeight-8, colour)
	// The line spans what the rounds allow: our lowest to etcd's highest, and our highest to etcd's lowest.
	if other.low > 0 && own.low > 0 {
		fmt.Fprintf(out, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#000000"/>`+"\n",
			xOf(own.low/other.high), middle, xOf(own.high/other.low), middle)
	}
	writeText(out, nameWidth-8, middle+4, "end", "normal", row)
	writeText(out, nameWidth+fieldWidth+8, middle+4, "start", "normal", fmt.Sprintf("%s to %s %s", short(own.median), short(other.median), name))
}

// xOf is where a ratio lies.
func xOf(ratio float64) float64 {
	share := math.Log(min(max(ratio, 1/spanMax), spanMax)) / math.Log(spanMax) // -1 to 1
	return nameWidth + fieldWidth*(share+1)/2
}

func factor(f float64) string {
	if f < 1 {
		return fmt.Sprintf("1/%.0f", 1/f)
	}
	return fmt.Sprintf("%.0f", f)
}

func writeText(out *bytes.Buffer, x, y float64, anchor, weight, text string) {
	fmt.Fprintf(out, `<text x="%.1f" y="%.1f" text-anchor="%s" font-weight="%s">`, x, y, anchor, weight)
	_ = xml.EscapeText(out, []byte(text)) // a buffer takes everything
	out.WriteString("</text>\n")
}
