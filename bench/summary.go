package bench

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// spread is a value over the rounds.
type spread struct{ low, median, high float64 }

func spreadOf(found []float64) spread {
	s := slices.Clone(found)
	slices.Sort(s)
	n := len(s)
	return spread{low: s[0], median: (s[(n-1)/2] + s[n/2]) / 2, high: s[n-1]}
}

func (s spread) String() string {
	if s.low == s.high {
		return short(s.median)
	}
	return fmt.Sprintf("%s (%s-%s)", short(s.median), short(s.low), short(s.high))
}

// short writes three digits that count.
func short(v float64) string {
	switch size := math.Abs(v); {
	case size >= 100:
		return fmt.Sprintf("%.0f", v)
	case size >= 10:
		return fmt.Sprintf("%.1f", v)
	case size >= 0.1 || size == 0:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.4f", v)
}

// summarize prints what was found for each row: the median of the rounds, in parentheses the lowest and the highest, and
// the first side as a multiple of the second.
func summarize(w io.Writer, r *results, rows []row, sides []side) error {
	for _, row := range rows {
		if !slices.ContainsFunc(r.all, func(one record) bool { return one.Row == row.name }) {
			continue // there was no time for it
		}
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintf(w, "\n%s: %s\n", row.name, row.asks)
		if goal := row.goal(); goal != "" {
			fmt.Fprintf(w, "aim: %s\n", goal)
		}
		for _, name := range row.show {
			cells := []string{"  " + name}
			var medians []float64
			for _, s := range sides {
				found := r.valuesOf(row.name, name, s)
				if len(found) == 0 {
					cells = append(cells, s.name+" -")
					continue
				}
				over := spreadOf(found)
				medians = append(medians, over.median)
				cells = append(cells, s.name+" "+over.String())
			}
			if len(medians) == 2 && medians[1] != 0 {
				cells = append(cells, fmt.Sprintf("ratio %.2f", medians[0]/medians[1]))
			}
			fmt.Fprintln(t, strings.Join(cells, "\t"))
		}
		if err := t.Flush(); err != nil {
			return fmt.Errorf("print the summary: %w", err)
		}
	}
	return nil
}
