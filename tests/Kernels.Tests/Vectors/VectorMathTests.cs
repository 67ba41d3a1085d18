using IptNative.Kernels.Cpu;
using Xunit;

namespace IptNative.Kernels.Tests.Vectors;

public sealed unsafe class VectorMathTests
{
    // Every 1013th float: 2^32 / 1013 = 4.2 million, all exponents, both signs, NaN and infinities.
    private const uint Step = 1013;

    private delegate float Scalar(float x);

    [Fact]
    public void ExpIsWithinItsBound() => Sweep("exp", x => VectorMath.Exp(new F32x1(x)).Value, Math.Exp, 1.1);

    [Fact]
    public void TanhIsWithinItsBound() => Sweep("tanh", x => VectorMath.Tanh(new F32x1(x)).Value, Math.Tanh, 2);

    [Theory]
    [InlineData(0f, 1f)]
    [InlineData(float.NegativeInfinity, 0f)]
    [InlineData(float.MinValue, 0f)]
    [InlineData(float.PositiveInfinity, float.PositiveInfinity)]
    [InlineData(88.8f, float.PositiveInfinity)]
    [InlineData(float.NaN, float.NaN)]
    public void ExpAtTheEdges(float x, float expected) => Assert.Equal(expected, VectorMath.Exp(new F32x1(x)).Value);

    [Fact]
    public void TanhKeepsTheSignOfZeroAndNaN()
    {
        Assert.Equal(BitConverter.SingleToInt32Bits(-0f), BitConverter.SingleToInt32Bits(VectorMath.Tanh(new F32x1(-0f)).Value));
        Assert.Equal(1f, VectorMath.Tanh(new F32x1(float.PositiveInfinity)).Value);
        Assert.Equal(-1f, VectorMath.Tanh(new F32x1(float.NegativeInfinity)).Value);
        Assert.True(float.IsNaN(VectorMath.Tanh(new F32x1(float.NaN)).Value));
    }

    [Fact]
    public void EveryWidthGivesTheBitsOfOneLane()
    {
        SameBits<F32x4>();
        SameBits<F32x8>();
        SameBits<F32x16>();
    }

    [Fact]
    public void EveryWidthWidensHalfAndBFloat16Exactly()
    {
        Widens<F32x4>();
        Widens<F32x8>();
        Widens<F32x16>();
    }

    [Fact]
    public void EveryWidthSumsInDouble()
    {
        Sums<F32x1>();
        Sums<F32x4>();
        Sums<F32x8>();
        Sums<F32x16>();
    }

    private static void Sweep(string name, Scalar f, Func<double, double> exact, double ulps)
    {
        double worst = 0;
        float at = 0;
        for (ulong bits = 0; bits <= uint.MaxValue; bits += Step)
        {
            float x = BitConverter.UInt32BitsToSingle((uint)bits);
            double expected = exact(x);
            float actual = f(x);
            if (double.IsNaN(expected))
            {
                Assert.True(float.IsNaN(actual), $"{name}({x:R}) = {actual:R}, expected NaN.");
                continue;
            }
            if ((float)expected == actual)
                continue;
            // Of the float below: between powers of two the spacing is that of the smaller one; subnormals have the least one.
            float magnitude = MathF.Abs((float)expected);
            double ulp = float.IsInfinity(magnitude) ? float.MaxValue - MathF.BitDecrement(float.MaxValue) : Math.Max(MathF.BitIncrement(magnitude) - (double)magnitude, float.Epsilon);
            double bounded = float.IsInfinity(actual) ? Math.ScaleB(1, 128) : actual;
            double error = Math.Abs(bounded - expected) / ulp;
            if (error > worst)
                (worst, at) = (error, x);
        }
        Assert.True(worst <= ulps, $"{name}: {worst:F3} ulp at {at:R}, expected {ulps} at most.");
    }

    private static void SameBits<V>()
        where V : unmanaged, ISimd<V>
    {
        float* x = stackalloc float[16], y = stackalloc float[16];
        var random = new Random(1);
        for (int round = 0; round < 20000; round++)
        {
            for (int i = 0; i < V.Lanes; i++)
                x[i] = BitConverter.Int32BitsToSingle(round % 2 == 0 ? random.Next(int.MinValue, int.MaxValue) : BitConverter.SingleToInt32Bits((float)(20 * random.NextDouble() - 10)));
            VectorMath.Exp(V.Load(x)).Store(y);
            Check(v => VectorMath.Exp(v), "exp");
            VectorMath.Tanh(V.Load(x)).Store(y);
            Check(v => VectorMath.Tanh(v), "tanh");
            GeluTanh.Evaluate(V.Load(x), out V derivative).Store(y);
            Check(v => GeluTanh.Evaluate(v, out _), "gelu");
            derivative.Store(y);
            Check(GeluSlope, "gelu'");
            ReluActivation.Evaluate(V.Load(x), out _).Store(y);
            Check(v => ReluActivation.Evaluate(v, out _), "relu");
        }

        static F32x1 GeluSlope(F32x1 v)
        {
            GeluTanh.Evaluate(v, out F32x1 d);
            return d;
        }

        void Check(Func<F32x1, F32x1> one, string name)
        {
            for (int i = 0; i < V.Lanes; i++)
            {
                float expected = one(new F32x1(x[i])).Value;
                // Equals: NaN is NaN whatever its payload; zeros by bits.
                Assert.True(expected.Equals(y[i]) && (expected != 0 || float.IsNegative(expected) == float.IsNegative(y[i])), $"{name} on {V.Lanes} lanes at {x[i]:R}: {y[i]:R}, on one lane {expected:R}.");
            }
        }
    }

    private static void Widens<V>()
        where V : unmanaged, ISimd<V>
    {
        ushort* x = stackalloc ushort[16];
        float* y = stackalloc float[16];
        for (int first = 0; first <= ushort.MaxValue; first += V.Lanes)
        {
            for (int i = 0; i < V.Lanes; i++)
                x[i] = (ushort)(first + i);
            V.LoadF16(x).Store(y);
            for (int i = 0; i < V.Lanes; i++)
                Assert.True(((float)BitConverter.UInt16BitsToHalf(x[i])).Equals(y[i]), $"f16 {x[i]:X4} on {V.Lanes} lanes: {y[i]:R}.");
            V.LoadBF16(x).Store(y);
            for (int i = 0; i < V.Lanes; i++)
                Assert.Equal((uint)x[i] << 16, BitConverter.SingleToUInt32Bits(y[i]));
        }
    }

    private static void Sums<V>()
        where V : unmanaged, ISimd<V>
    {
        // 1e8 and its negative leave 37 ones that a float sum would lose.
        float* x = stackalloc float[39], one = stackalloc float[39];
        for (int i = 0; i < 39; i++)
            (x[i], one[i]) = (1, 1);
        (x[3], x[20]) = (1e8f, -1e8f);
        Assert.Equal(37, RowMath.Sum<V>(x, 39));
        Assert.Equal(37, RowMath.Dot<V>(x, one, 39));
        Assert.Equal(37, RowMath.WeightedDot<V>(one, one, x, 39));
        Assert.Equal(1e8f, RowMath.Max<V>(x, 39));
    }
}
