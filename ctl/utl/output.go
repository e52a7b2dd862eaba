package utl

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/tw"
	"github.com/spf13/cobra"
)

// result is what a command found, in the forms in which etcd's tool shows it.
type result struct {
	fields []field
	json   any
}

// field is one fact. Head stands above its column in a table, Name before it in the format fields.
type field struct {
	head, name string
	cell       string // in a table and a simple line
	value      any    // in the format fields
}

// printer is the format that was asked for. It is looked up before the work begins, as in etcd's tool.
type printer func(w io.Writer, r result) error

func (t *tool) printer() (printer, error) {
	switch t.format {
	case "simple":
		return printSimple, nil
	case "table":
		return printTable, nil
	case "fields":
		return printFields, nil
	case "json":
		return printJSON, nil
	case "protobuf":
		return func(io.Writer, result) error {
			return coded{exitBadFeature, errors.New("protobuf not supported as output format")}
		}, nil
	}
	return nil, coded{exitBadFeature, errors.New("unsupported output format")}
}

// show runs find and prints what it found.
func (t *tool) show(cmd *cobra.Command, find func() (result, error)) error {
	print, err := t.printer()
	if err != nil {
		return err
	}
	r, err := find()
	if err != nil {
		return err
	}
	return print(cmd.OutOrStdout(), r)
}

func (r result) cells() (head, row []string) {
	for _, f := range r.fields {
		head, row = append(head, f.head), append(row, f.cell)
	}
	return head, row
}

func printSimple(w io.Writer, r result) error {
	_, row := r.cells()
	_, err := fmt.Fprintln(w, strings.Join(row, ", "))
	return err
}

func printTable(w io.Writer, r result) error {
	head, row := r.cells()
	table := tablewriter.NewTable(w, tablewriter.WithConfig(tablewriter.NewConfigBuilder().WithRowAlignment(tw.AlignRight).Build()))
	table.Header(head)
	if err := table.Append(row); err != nil {
		return err
	}
	return table.Render()
}

func printFields(w io.Writer, r result) error {
	for _, f := range r.fields {
		if _, err := fmt.Fprintf(w, "%q : %v\n", f.name, f.value); err != nil {
			return err
		}
	}
	return nil
}

func printJSON(w io.Writer, r result) error {
	text, err := json.Marshal(r.json)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, string(text))
	return err
}
