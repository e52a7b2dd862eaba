package cluster

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

var recordFlag = flag.String("record", "", "file to which figures are added, in the form of bench/results; empty records nothing")

// record adds one line of figures to the file that the flag names.
func record(t *testing.T, row string, side program, params map[string]any, values map[string]float64) {
	t.Helper()
	if *recordFlag == "" {
		return
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		t.Fatal(err)
	}
	var load1 float64
	if _, err := fmt.Sscan(strings.Fields(string(load))[0], &load1); err != nil {
		t.Fatal(err)
	}
	line, err := json.Marshal(map[string]any{
		"row": row, "side": side.name, "at": time.Now().UTC(), "load1": load1, "params": params, "values": values,
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(*recordFlag, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(append(line, '\n')); err != nil {
		t.Fatal(err)
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
