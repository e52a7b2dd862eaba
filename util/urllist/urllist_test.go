package urllist

import (
	"slices"
	"strings"
	"testing"
)

// TestParse is the table of what etcd accepts, and in what order it comes out.
func TestParse(t *testing.T) {
	for _, c := range []struct{ in, want string }{ // comma lists; want is empty for what is refused
		{"http://b:2,http://a:1", "http://a:1,http://b:2"},
		{" https://a:1 ", "https://a:1"},
		{"http://a:1,http://a:1", "http://a:1,http://a:1"},
		{"unix://a:1,unixs:///tmp/s", "unix://a:1,unixs:///tmp/s"},
		{"http://[::1]:1", "http://[::1]:1"},
		{"http://a", ""},
		{"http://a:1/", ""},
		{"http://a:1/path", ""},
		{"a:1", ""},
		{"ftp://a:1", ""},
		{"http://a:1,", ""},
		{"http://a b:1", ""},
	} {
		urls, err := Parse(strings.Split(c.in, ","))
		var got []string
		for _, u := range urls {
			got = append(got, u.String())
		}
		if (err != nil) != (c.want == "") || err == nil && !slices.Equal(got, strings.Split(c.want, ",")) {
			t.Errorf("%q: %q, %v", c.in, got, err)
		}
	}
	if _, err := Parse(nil); err == nil {
		t.Error("no URL at all was accepted")
	}
}
