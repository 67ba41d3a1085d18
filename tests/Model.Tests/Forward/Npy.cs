// An array of the goldens, through the product's own reader (NumpyFileTests prove that one against bytes that NumPy wrote).
using IptNative.Model.Checkpoints;

namespace IptNative.Model.Tests.Forward;

internal sealed record Npy(int[] Shape, NumpyFile File)
{
    public float[] Floats => File.ToFloats();

    public double[] Doubles => File.ToDoubles();

    public int[] Ints => Array.ConvertAll(File.ToInt64(), value => checked((int)value));

    public static Npy Load(string path)
    {
        NumpyFile file = NumpyFile.Read(path);
        return new Npy([.. Enumerable.Range(0, file.Shape.Rank).Select(axis => checked((int)file.Shape[axis]))], file);
    }
}
