package output

import (
	"fmt"
	"strings"
)

// column is a heading and how its cell is made of a row.
type column[T any] struct {
	head string
	cell func(T) string
}

// cells makes a table of rows.
func cells[T any](columns []column[T], rows []T) (head []string, lines [][]string) {
	for _, c := range columns {
		head = append(head, c.head)
	}
	for _, row := range rows {
		line := make([]string, len(columns))
		for i, c := range columns {
			line[i] = c.cell(row)
		}
		lines = append(lines, line)
	}
	return head, lines
}

// rows writes a table as the format simple does: without its head, and with commas.
func (w *page) rows(_ []string, lines [][]string) {
	for _, line := range lines {
		w.line("%s", strings.Join(line, ", "))
	}
}

// lines writes one name on each.
func (w *page) lines(names []string) {
	for _, name := range names {
		w.line("%s", name)
	}
}

// quoted writes one line of the format fields whose value is text.
func (w *page) quoted(name, value string) { w.field(name, fmt.Sprintf("%q", value)) }
