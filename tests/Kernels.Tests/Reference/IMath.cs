// The functions that INumberBase lacks, for double (the reference) and Complex (the complex step).
using System.Numerics;

namespace IptNative.Kernels.Tests.Reference;

/// <summary>Elementary functions and a real part to branch on: never Abs, which is not analytic.</summary>
public interface IMath<T>
{
    static abstract T Exp(T x);

    static abstract T Log(T x);

    static abstract T Sqrt(T x);

    static abstract T Tanh(T x);

    static abstract double Real(T x);
}

public readonly struct DoubleMath : IMath<double>
{
    public static double Exp(double x) => Math.Exp(x);

    public static double Log(double x) => Math.Log(x);

    public static double Sqrt(double x) => Math.Sqrt(x);

    public static double Tanh(double x) => Math.Tanh(x);

    public static double Real(double x) => x;
}

public readonly struct ComplexMath : IMath<Complex>
{
    public static Complex Exp(Complex x) => Complex.Exp(x);

    public static Complex Log(Complex x) => Complex.Log(x);

    public static Complex Sqrt(Complex x) => Complex.Sqrt(x);

    public static Complex Tanh(Complex x) => Complex.Tanh(x);

    public static double Real(Complex x) => x.Real;
}

/// <summary>d/dx of dot(dy, f(x)) by the complex step: no subtraction, so exact to rounding.</summary>
public static class ComplexStep
{
    private const double H = 1e-50;

    public static double[] Gradient(Func<Complex[], Complex[]> f, double[] x, double[] dy)
    {
        var gradient = new double[x.Length];
        for (int i = 0; i < x.Length; i++)
        {
            Complex[] at = [.. x.Select(v => new Complex(v, 0))];
            at[i] = new Complex(x[i], H);
            Complex[] y = f(at);
            for (int j = 0; j < y.Length; j++)
                gradient[i] += dy[j] * (y[j].Imaginary / H);
        }
        return gradient;
    }
}
