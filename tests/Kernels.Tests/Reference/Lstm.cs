// An LSTM layer as plain loops, from PyTorch's formulas.
using System.Numerics;

namespace IptNative.Kernels.Tests.Reference;

public static class LstmReference
{
    public static T Sigmoid<T, TMath>(T x)
        where T : INumberBase<T>
        where TMath : IMath<T> => T.One / (T.One + TMath.Exp(-x));

    /// <summary>One cell: gates' sums [4 h] in torch's order i, f, g, o; gives [c, y].</summary>
    public static T[] Cell<T, TMath>(T[] sums, T[] previous, int h)
        where T : INumberBase<T>
        where TMath : IMath<T>
    {
        var result = new T[2 * h];
        for (int i = 0; i < h; i++)
        {
            T cell = Sigmoid<T, TMath>(sums[h + i]) * previous[i] + Sigmoid<T, TMath>(sums[i]) * TMath.Tanh(sums[2 * h + i]);
            result[i] = cell;
            result[h + i] = Sigmoid<T, TMath>(sums[3 * h + i]) * TMath.Tanh(cell);
        }
        return result;
    }
}
