package ctl

import "holdfast/ctl/output"

// compatVariable names the version whose columns are shown where --compat does not.
const compatVariable = "HOLDFAST_CTL_COMPAT"

// compatLayout is the layout that --compat or the environment asks for.
func (t *tool) compatLayout() (output.Layout, error) {
	version, from := t.flags.compat, "--compat"
	if version == "" {
		version, from = t.env.getenv(compatVariable), compatVariable
	}
	switch version {
	case "", "3.6", "3.7":
		return output.LayoutCurrent, nil
	case "3.4", "3.5":
		return output.LayoutBefore36, nil
	}
	return 0, badArgs("%s is %q; it may be 3.4, 3.5, 3.6 or 3.7", from, version)
}
