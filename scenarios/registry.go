package scenarios

import (
	"twlab/scenarios/client"
	"twlab/scenarios/nat"
	"twlab/scenarios/proxy"
	"twlab/scenarios/situation"
	"twlab/scenarios/timewait"
)

// Families are all families, in the order of the document.
func Families() []situation.Family {
	return []situation.Family{
		client.Defaults(),
		client.Negotiation(),
		client.Clock(),
		client.Exhaustion(),
		client.DualStack(),
		client.BothVersions(),
		timewait.Length(),
		timewait.Idle(),
		timewait.Recycle(),
		timewait.Uptimes(),
		timewait.Tuple(),
		timewait.Chance(),
		nat.Share(),
		nat.Gateway(),
		nat.Ceiling(),
		nat.Refusal(),
		nat.ByProfile(),
		client.Remedies(),
		proxy.Proxy(),
		proxy.Ports(),
		proxy.Loss(),
	}
}
