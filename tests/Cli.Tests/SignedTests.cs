using IptNative.Cli.Terminal;
using Xunit;

namespace IptNative.Cli.Tests;

public sealed class SignedTests
{
    [Theory]
    [InlineData(1.25, 1, "+1.3")]
    [InlineData(-0.053439, 5, "-0.05344")]
    [InlineData(0, 2, "+0.00")]
    [InlineData(-0.000001, 5, "+0.00000")] // .NET's own format writes "-+0.00000".
    [InlineData(0.000001, 5, "+0.00000")]
    [InlineData(double.NaN, 2, "NaN")]
    public void ANumberHasOneSign(double value, int decimals, string expected) => Assert.Equal(expected, Signed.Text(value, decimals));
}
