package config

import (
	"math"
	"testing"
)

// Goal: sizes are read with their units, and what is none, or does not fit, is refused. Method: a table.
func TestParseBytes(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "7": 7, "7B": 7, "7KiB": 7 << 10, "512MiB": 512 << 20, "2GiB": 2 << 30, "1TiB": 1 << 40,
		"7Ki": 7 << 10, "512Mi": 512 << 20, "2Gi": 2 << 30, "1Ti": 1 << 40, "9223372036854775807": math.MaxInt64,
		"": -1, "MiB": -1, "-1": -1, "-1MiB": -1, "1.5GiB": -1, "1 GiB": -1, "1MB": -1, "9223372036854775807KiB": -1, "8388608TiB": -1,
	} {
		got, err := parseBytes(text)
		if want < 0 && err == nil || want >= 0 && (err != nil || got != want) {
			t.Errorf("%q is read as %d, %v; want %d", text, got, err, want)
		}
	}
}
