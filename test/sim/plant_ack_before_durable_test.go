//go:build plant_ack_before_durable || plant_all

package sim

// The mistake ack-before-durable acknowledges what was not synced: the log leaves the disk to itself.
func init() { plants["ack-before-durable"] = slips{unsynced: true} }
