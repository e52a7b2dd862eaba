package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// header is the first line of a file of results, and is repeated when a run goes on with other binaries.
type header struct {
	Commit  string            `json:"commit"` // of the binary that is measured; "-dirty" when its source differed
	At      time.Time         `json:"at"`
	Machine machine           `json:"machine"`
	Builds  map[string]string `json:"builds"` // side -> what its binary is
}

// record is one measurement: one row, side and round.
type record struct {
	Row     string               `json:"row"`
	Side    string               `json:"side"`
	Build   string               `json:"build"` // the start of the binary's SHA-256: figures of other builds are not mixed in
	Round   int                  `json:"round"` // from 1
	At      time.Time            `json:"at"`
	Seconds float64              `json:"seconds"` // the whole measurement with its preparation
	Stock   float64              `json:"stock_s"` // how much of that went into data that others start from, too
	Load1   float64              `json:"load1"`   // the machine's load average just before
	Params  map[string]any       `json:"params,omitempty"`
	Values  values               `json:"values"`
	Series  map[string][]float64 `json:"series,omitempty"` // values over the course of the measurement
}

func newRecord() record {
	return record{At: time.Now().UTC(), Params: map[string]any{}, Values: values{}, Series: map[string][]float64{}}
}

// results is a file of records that only grows.
type results struct {
	file *os.File
	all  []record // what the file holds
}

// openResults reads what path holds, if it exists, and appends head. A last line without its end was being written when
// a run was killed, and is cut off.
func openResults(path string, head header) (*results, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open results: %w", err)
	}
	r := &results{file: file}
	if err := r.readAll(); err != nil {
		r.close()
		return nil, fmt.Errorf("read earlier results in %s: %w", path, err)
	}
	return r, r.append(head)
}

// readAll fills r.all; lines without a row are headers.
func (r *results) readAll() error {
	text, err := io.ReadAll(r.file)
	if err != nil {
		return err
	}
	whole := bytes.LastIndexByte(text, '\n') + 1
	for line := range bytes.Lines(text[:whole]) {
		var one record
		if err := json.Unmarshal(line, &one); err != nil {
			return err
		}
		if one.Row != "" {
			r.all = append(r.all, one)
		}
	}
	return r.file.Truncate(int64(whole))
}

// append writes one line.
func (r *results) append(line any) error {
	text, err := json.Marshal(line)
	if err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	if _, err := r.file.Write(append(text, '\n')); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}

func (r *results) add(one record) error {
	r.all = append(r.all, one)
	return r.append(one)
}

// has tells whether a measurement was made before, by this run or an earlier one.
func (r *results) has(row string, s side, round int) bool {
	for _, one := range r.all {
		if one.Row == row && one.Side == s.name && one.Build == s.build && one.Round == round {
			return true
		}
	}
	return false
}

// lastTook is what the last measurement of a row and side took, without what it prepared for others.
func (r *results) lastTook(row string, s side) (time.Duration, bool) {
	for _, one := range slices.Backward(r.all) {
		if one.Row == row && one.Side == s.name && one.Build == s.build {
			return time.Duration((one.Seconds - one.Stock) * float64(time.Second)), true
		}
	}
	return 0, false
}

// valuesOf returns one value of a row in every round of a side.
func (r *results) valuesOf(row, name string, s side) []float64 {
	var found []float64
	for _, one := range r.all {
		if v, has := one.Values[name]; has && one.Row == row && one.Side == s.name && one.Build == s.build {
			found = append(found, v)
		}
	}
	return found
}

func (r *results) close() { _ = r.file.Close() } // each line went to the kernel when it was written
