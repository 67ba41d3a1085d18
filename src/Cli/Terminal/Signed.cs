// Numbers that are printed with their sign. Deliberately not: units, widths.
using System.Globalization;

namespace IptNative.Cli.Terminal;

internal static class Signed
{
    /// <summary>With a plus or a minus before it, and a plus where nothing is left after rounding: "+0.00;-0.00" alone writes "-+0.00" for a negative number that rounds to zero.</summary>
    /// <param name="value">The number.</param>
    /// <param name="decimals">Digits after the point, 1 or more.</param>
    public static string Text(double value, int decimals)
    {
        string zeros = new('0', decimals);
        // A negative zero is not below zero, but is written with its sign.
        return (Math.Round(value, decimals, MidpointRounding.AwayFromZero) + 0.0).ToString($"+0.{zeros};-0.{zeros}", CultureInfo.InvariantCulture);
    }
}
