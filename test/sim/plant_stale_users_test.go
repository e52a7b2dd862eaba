//go:build plant_stale_users || plant_all

package sim

// The mistake stale-users leaves the users as they were when a received state comes into force.
func init() { plants["stale-users"] = slips{keepsUsers: true} }
