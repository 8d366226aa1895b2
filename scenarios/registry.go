package scenarios

// Families are all families, in the order of the document.
func Families() []Driven {
	return []Driven{
		Defaults(),
		Negotiation(),
		Clock(),
		Exhaustion(),
		Length(),
		Idle(),
		Recycle(),
		Uptimes(),
		Tuple(),
		Chance(),
		Share(),
		Gateway(),
		Ceiling(),
		Refusal(),
		ByPersona(),
		Remedies(),
		Proxy(),
		ProxyPorts(),
		ProxyLoss(),
	}
}
