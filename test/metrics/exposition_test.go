package metrics

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// scrape gets what a member shows, as text.
func scrape(t *testing.T, address string) string {
	t.Helper()
	r, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %v", r.StatusCode, err)
	}
	return string(text)
}

// shape is what a family looks like whatever its numbers are: its type, the names of its labels, its buckets.
type shape struct {
	kind   string
	labels []string
	bounds []float64
}

func (s shape) String() string {
	return fmt.Sprintf("%s by %v with buckets %v", s.kind, s.labels, s.bounds)
}

func (s shape) equal(o shape) bool {
	return s.kind == o.kind && slices.Equal(s.labels, o.labels) && slices.Equal(s.bounds, o.bounds)
}

// shapes reads what a member shows.
func shapes(t *testing.T, text string) map[string]shape {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]shape{}
	for name, f := range families {
		found[name] = shapeOf(f)
	}
	return found
}

func shapeOf(f *dto.MetricFamily) shape {
	s, labels := shape{kind: strings.ToLower(f.GetType().String())}, map[string]bool{}
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			labels[l.GetName()] = true
		}
		s.bounds = nil
		for _, b := range m.GetHistogram().GetBucket() {
			s.bounds = append(s.bounds, b.GetUpperBound())
		}
	}
	s.labels = slices.Sorted(maps.Keys(labels))
	return s
}
