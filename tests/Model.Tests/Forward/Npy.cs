// Reads the .npy files of the goldens (little-endian, C order). Test support, not the product's reader.
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.RegularExpressions;
using Xunit;

namespace IptNative.Model.Tests.Forward;

internal sealed record Npy(int[] Shape, Array Values)
{
    public float[] Floats => Values as float[] ?? [.. ((double[])Values).Select(v => (float)v)];

    public double[] Doubles => Values as double[] ?? [.. ((float[])Values).Select(v => (double)v)];

    public int[] Ints => Values switch { long[] l => [.. l.Select(v => (int)v)], int[] i => i, _ => throw new InvalidDataException("not an integer array") };

    public static Npy Load(string path)
    {
        byte[] bytes = File.ReadAllBytes(path);
        int headerLength = bytes[6] == 1 ? BitConverter.ToUInt16(bytes, 8) : BitConverter.ToInt32(bytes, 8);
        int start = bytes[6] == 1 ? 10 : 12;
        string header = Encoding.ASCII.GetString(bytes, start, headerLength);
        string descr = Regex.Match(header, "'descr': '([^']+)'").Groups[1].Value;
        Assert.Contains("'fortran_order': False", header, StringComparison.Ordinal);
        int[] shape = [.. Regex.Match(header, @"'shape': \(([^)]*)\)").Groups[1].Value
            .Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).Select(s => int.Parse(s, CultureInfo.InvariantCulture))];
        ReadOnlySpan<byte> data = bytes.AsSpan(start + headerLength);
        Array values = descr switch
        {
            "<f4" => MemoryMarshal.Cast<byte, float>(data).ToArray(),
            "<f8" => MemoryMarshal.Cast<byte, double>(data).ToArray(),
            "<i8" => MemoryMarshal.Cast<byte, long>(data).ToArray(),
            "<i4" => MemoryMarshal.Cast<byte, int>(data).ToArray(),
            _ => throw new InvalidDataException($"{path}: dtype {descr}"),
        };
        return new Npy(shape, values);
    }
}
