package gpushopper

import (
	"fmt"
	"math"
	"math/big"

	"github.com/shopspring/decimal"
	"google.golang.org/genproto/googleapis/type/money"
)

// nanoDigits are the digits after the point that money on the wire can hold.
const nanoDigits = 9

// ToDecimal gives an amount in US dollars, exact to the nano-dollar. An absent amount is zero; one in another currency is refused.
func ToDecimal(amount *money.Money) (decimal.Decimal, error) {
	if code := amount.GetCurrencyCode(); code != "" && code != "USD" {
		return decimal.Zero, fmt.Errorf("%s is no currency of this service; allowed: USD", code)
	}
	return decimal.NewFromInt(amount.GetUnits()).Add(decimal.New(int64(amount.GetNanos()), -nanoDigits)), nil
}

// FromDecimal makes an amount for a request. It refuses what is finer than a nano-dollar or beyond 64 bits of whole dollars; nothing is rounded.
func FromDecimal(amount decimal.Decimal) (*money.Money, error) {
	nanos := amount.Shift(nanoDigits)
	if !nanos.IsInteger() {
		return nil, fmt.Errorf("%s is finer than a nano-dollar: give at most %d digits after the point", amount, nanoDigits)
	}
	units, rest := new(big.Int).QuoRem(nanos.BigInt(), big.NewInt(1_000_000_000), new(big.Int))
	if !units.IsInt64() || units.Int64() == math.MinInt64 {
		return nil, fmt.Errorf("%s is beyond 64 bits of whole dollars", amount)
	}
	return &money.Money{CurrencyCode: "USD", Units: units.Int64(), Nanos: int32(rest.Int64())}, nil
}

// Dollars makes an amount for a request from text such as "0.36", and panics on what is no amount: it is for constants.
func Dollars(text string) *money.Money {
	value, err := decimal.NewFromString(text)
	if err != nil {
		panic(fmt.Sprintf("gpushopper.Dollars(%q): %v", text, err))
	}
	amount, err := FromDecimal(value)
	if err != nil {
		panic(fmt.Sprintf("gpushopper.Dollars(%q): %v", text, err))
	}
	return amount
}
