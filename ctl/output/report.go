package output

import (
	"fmt"
	"io"
	"strconv"
)

// Report is what a tool for files has found or made: lists of facts, in all forms of an answer but protobuf, which etcd's tool has
// none of either.
type Report struct {
	Tables []Table
	// Simple writes the format simple; nil writes the rows, with commas.
	Simple func(io.Writer)
	// JSON is encoded as the format json.
	JSON any
}

// Table is a list of facts of one kind. A row has as many cells as there are columns.
type Table struct {
	Columns []Column
	Rows    [][]Cell
}

// Column is what its cells are about: Head stands above it in a table, Name before each in the format fields.
type Column struct{ Head, Name string }

// Cell is one fact: Text in a table and a simple line, Value in the format fields.
type Cell struct {
	Text  string
	Value any
}

// Shown is a fact that looks the same everywhere.
func Shown(value any) Cell { return Cell{fmt.Sprint(value), value} }

// Quoted is a text, in quotes in the format fields.
func Quoted(text string) Cell { return Cell{text, strconv.Quote(text)} }

// ErrNoProtobuf says that an answer has no form in protobuf. A command that changes something asks before it does.
var ErrNoProtobuf error = unsupported("protobuf not supported as output format")

// Reported is the answer of a tool for files.
func Reported(r Report) Answer {
	a := Answer{message: r.JSON, many: true, fields: r.fields}
	for _, t := range r.Tables {
		a.tables = append(a.tables, t.cells)
	}
	a.simple = func(w *page) {
		if r.Simple != nil {
			r.Simple(w)
			return
		}
		for _, t := range r.Tables {
			w.rows(t.cells())
		}
	}
	return a
}

// fields writes each row by itself, with an empty line between two.
func (r Report) fields(w *page) {
	begun := false
	for _, t := range r.Tables {
		for _, row := range t.Rows {
			if begun {
				w.line("")
			}
			begun = true
			for i, c := range row {
				w.field(t.Columns[i].Name, c.Value)
			}
		}
	}
}

func (t Table) cells() (head []string, rows [][]string) {
	for _, c := range t.Columns {
		head = append(head, c.Head)
	}
	for _, row := range t.Rows {
		var line []string
		for _, c := range row {
			line = append(line, c.Text)
		}
		rows = append(rows, line)
	}
	return head, rows
}
