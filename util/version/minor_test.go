package version

import "testing"

// TestMinor is the table of versions that members tell each other, in order; those that are none are refused.
func TestMinor(t *testing.T) {
	order := []string{"2.3.8", "3.0.0", "3.6.99", "3.7.0-rc.1", "3.8.0", "3.10.0", "4.0.0+build"}
	for i, text := range order {
		v, err := ParseMinor(text)
		if err != nil {
			t.Fatal(err)
		}
		for j, other := range order {
			w := MustParseMinor(other)
			if v.Below(w) != (i < j) {
				t.Errorf("%s below %s: %t", text, other, v.Below(w))
			}
		}
	}
	if got := MustParseMinor("3.7.3-rc.1+x").String(); got != "3.7.0" {
		t.Errorf("3.7.3-rc.1+x as a cluster's version is %s", got)
	}
	for _, text := range []string{"", "3", "3.7", "3.7.0.1", "a.b.c", "3.-7.0", "not_decided", "3.7.4294967296", "3.7.0-%", "3.7.0-a..b"} {
		if v, err := ParseMinor(text); err == nil {
			t.Errorf("%q was read as %v", text, v)
		}
	}
}
