package ctl

import (
	"slices"
	"testing"
)

// TestWords splits lines as etcd's tool does; test/ctl shows that the transactions made of them are its too.
func TestWords(t *testing.T) {
	for line, want := range map[string][]string{
		``:                          nil,
		`  put  a b `:               {"put", "a", "b"},
		`put "a b" 'c d'`:           {"put", "a b", "c d"},
		`put a "x\ty\"z\x00"`:       {"put", "a", "x\ty\"z\x00"},
		`put a 'x\t"'`:              {"put", "a", `x\t"`},
		`put a ""`:                  {"put", "a", ""},
		`put a b"c d`:               {"put", "a", `b"c`, "d"},
		`put a "open`:               {"put", "a", "open"},
		`put a"b"c`:                 {"put", `a"b"c`},
		`put "a""b"`:                {"put", "a", "b"},
		`watch foo -- sh -c 'a; b'`: {"watch", "foo", "--", "sh", "-c", "a; b"},
	} {
		got, err := words(line)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v, want %q", line, got, err, want)
		}
	}
	if got, err := words(`put a "\q"`); err == nil {
		t.Errorf("an escape that is none: %q", got)
	}
}

// FuzzWords: no line makes it fail in another way than by an error.
func FuzzWords(f *testing.F) {
	f.Add(`put "a b" 'c' d"e`)
	f.Fuzz(func(t *testing.T, line string) {
		if list, err := words(line); err == nil && len(list) > len(line) {
			t.Errorf("%q makes %d words", line, len(list))
		}
	})
}
