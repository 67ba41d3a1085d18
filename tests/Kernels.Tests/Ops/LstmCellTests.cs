// The LSTM's cell against plain loops in double, whose derivative is taken by the complex step.
using System.Numerics;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Kernels.Tests.Reference;
using Xunit;

namespace IptNative.Kernels.Tests.Ops;

public abstract class LstmCellTests<TDevice> : OpTests<TDevice>
    where TDevice : ITestDevice
{
    [Theory]
    [InlineData(1, 1)]
    [InlineData(1, 7)]
    [InlineData(3, 15)]
    [InlineData(2, 17)]
    [InlineData(5, 64)]
    [InlineData(1, 1027)]
    public void ForwardAndBackwardAreTheReferences(int rows, int h)
    {
        foreach (bool first in (bool[])[true, false])
        {
            float[] sums = Normal(rows * 4 * h, 1, 2), previous = first ? new float[rows * h] : Normal(rows * h, 2), dy = Normal(rows * h, 3), later = Normal(rows * h, 4);
            Tensor gates = Upload(sums), before = first ? default : Upload(previous), cell = Empty(rows * h), y = Empty(rows * h), dcell = Upload(later), dgates = Empty(rows * 4 * h);
            LstmCell.Forward(Device, gates, before, cell, y, rows, h);
            LstmCell.Backward(Device, gates, before, cell, Upload(dy), dcell, dgates, rows, h);
            float[] actualCell = Download(cell), actualY = Download(y), actualGates = Download(dgates), actualCells = Download(dcell);
            for (int r = 0; r < rows; r++)
            {
                double[] s = Widen(sums[(r * 4 * h)..((r + 1) * 4 * h)]), c = Widen(previous[(r * h)..((r + 1) * h)]);
                double[] expected = LstmReference.Cell<double, DoubleMath>(s, c, h);
                // Four sigmoids and tanhs of 2 ulp each, two products and a sum: numbers of a few units.
                Func<int, double> near = i => 16 * TensorAssert.Eps * (1 + Math.Abs(c[i % h]));
                TensorAssert.Close(expected.AsSpan(0, h), actualCell.AsSpan(r * h, h), near, "cell");
                TensorAssert.Close(expected.AsSpan(h), actualY.AsSpan(r * h, h), near, "y");
                // A cell's units do not touch each other: one complex step for each kind of input serves all of them.
                double[] given = [.. Widen(later[(r * h)..((r + 1) * h)]), .. Widen(dy[(r * h)..((r + 1) * h)])];
                double[] expectedGates = new double[4 * h], expectedCells = new double[h];
                for (int k = 0; k < 5; k++)
                {
                    Complex[] at = [.. s.Select(v => new Complex(v, 0))], from = [.. c.Select(v => new Complex(v, 0))];
                    for (int i = 0; i < h; i++)
                    {
                        if (k < 4) at[k * h + i] = new Complex(s[k * h + i], 1e-50);
                        else from[i] = new Complex(c[i], 1e-50);
                    }
                    Complex[] moved = LstmReference.Cell<Complex, ComplexMath>(at, from, h);
                    for (int i = 0; i < h; i++)
                    {
                        double d = (moved[i].Imaginary * given[i] + moved[h + i].Imaginary * given[h + i]) / 1e-50;
                        if (k < 4) expectedGates[k * h + i] = d;
                        else expectedCells[i] = d;
                    }
                }
                Func<int, double> slope = i => 32 * TensorAssert.Eps * (1 + Math.Abs(c[i % h])) * (1 + Math.Abs(given[i % h]) + Math.Abs(given[h + i % h]));
                TensorAssert.Close(expectedGates, actualGates.AsSpan(r * 4 * h, 4 * h), slope, "dgates");
                TensorAssert.Close(expectedCells, actualCells.AsSpan(r * h, h), slope, "dcell");
            }
        }
    }

    [Fact]
    public void FarSumsSaturateAndTheGatesMayBecomeTheirGradients()
    {
        Tensor gates = Upload([200f, -200f, 200f, 200f]), cell = Empty(1), y = Empty(1), dcell = Upload([1f]);
        LstmCell.Forward(Device, gates, Upload([5f]), cell, y, 1, 1);
        Assert.Equal([1f], Download(cell));
        LstmCell.Backward(Device, gates, Upload([5f]), cell, Upload([1f]), dcell, gates, 1, 1);
        Assert.All(Download(gates), g => Assert.Equal(0, g, 1e-30));
        Assert.Equal([0f], Download(dcell));
    }

    [Fact]
    public void WrongShapesAreNamed()
    {
        var e = Assert.Throws<ArgumentException>(() => LstmCell.Forward(Device, Empty(7), default, Empty(2), Empty(2), 1, 2));
        Assert.Contains("LstmCell.Forward: gates has 7 elements, expected [rows, 4 h] = [1, 4, 2]", e.Message, StringComparison.Ordinal);
    }
}

public sealed class CpuLstmCellTests : LstmCellTests<CpuTestDevice>;
