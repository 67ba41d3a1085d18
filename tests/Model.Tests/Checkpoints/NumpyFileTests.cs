using System.Text;
using IptNative.Kernels;
using IptNative.Model.Checkpoints;
using IptNative.Model.Tests.Forward;
using Xunit;

namespace IptNative.Model.Tests.Checkpoints;

public sealed class NumpyFileTests : IDisposable
{
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    private static byte[] File(string header, byte[] data, byte version = 1)
    {
        byte[] text = Encoding.UTF8.GetBytes(header);
        byte[] length = version == 1 ? BitConverter.GetBytes((ushort)text.Length) : BitConverter.GetBytes(text.Length);
        return [0x93, (byte)'N', (byte)'U', (byte)'M', (byte)'P', (byte)'Y', version, 0, .. length, .. text, .. data];
    }

    private NumpyFile Read(byte[] bytes) => NumpyFile.Read(_folder.Write("x.npy", bytes));

    [Fact]
    public void EveryArrayOfTheFixtureIsReadAsTheTestsReaderDoes()
    {
        string[] files = Directory.GetFiles(Goldens.Folder, "*.npy");
        Assert.True(files.Length > 30);
        foreach (string path in files)
        {
            Npy expected = Npy.Load(path);
            NumpyFile actual = NumpyFile.Read(path);
            Assert.Equal(expected.Shape.Select(d => (long)d), actual.Shape.Dims.ToArray());
            Assert.True(NumpyFile.IsNumpy(path));
            if (actual.DType is DType.I32 or DType.I64)
                Assert.Equal(expected.Ints.Select(i => (long)i), actual.ToInt64());
            else
                Assert.Equal(expected.Doubles, actual.ToDoubles());
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void FortranOrderIsTurned(byte version)
    {
        // a[i, j, k] = 100 i + 10 j + k of shape (2, 3, 2), first index fastest.
        var values = new List<float>();
        for (int k = 0; k < 2; k++)
        {
            for (int j = 0; j < 3; j++)
            {
                for (int i = 0; i < 2; i++)
                    values.Add(100 * i + 10 * j + k);
            }
        }
        NumpyFile file = Read(File("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3, 2), }\n", [.. values.SelectMany(BitConverter.GetBytes)], version));
        Assert.Equal([0f, 1, 10, 11, 20, 21, 100, 101, 110, 111, 120, 121], file.ToFloats());
    }

    [Fact]
    public void HalvesScalarsAndPython2ShapesAreRead()
    {
        Assert.Equal([1.5f], Read(File("{'descr': '<f2', 'fortran_order': False, 'shape': (), }", [0x00, 0x3e])).ToFloats());
        Assert.Equal([-1L, 2L], Read(File("""{"shape": (2L,), "descr": "<i4", "fortran_order": False}""", [255, 255, 255, 255, 2, 0, 0, 0])).ToInt64());
        Assert.Empty(Read(File("{'descr': '<f8', 'fortran_order': False, 'shape': (0, 5), }", [])).ToFloats());
    }

    [Theory]
    [InlineData("{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }", "big-endian")]
    [InlineData("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", "its type is '|O'")]
    [InlineData("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", "structured types are not read")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", "takes 8 bytes, 4 follow the header")]
    [InlineData("{'descr': '<f2', 'fortran_order': False, 'shape': (1,), }", "takes 2 bytes, 4 follow the header")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (1152921504606846976,), }", "more than 64 bits")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4), }", "more than 64 bits")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", "whole numbers")]
    [InlineData("{'descr': '<f4', 'fortran_order': 0, 'shape': (1,), }", "neither True nor False")]
    [InlineData("{'descr': '<f4', 'fortran_order': False}", "no 'shape'")]
    [InlineData("{'descr': '<f4', 'descr': '<f4'}", "'descr', or it twice")]
    [InlineData("{'descr': '<f4", "quoted text")]
    [InlineData("", "no '{'")]
    public void LiesAreRefused(string header, string reason) =>
        Assert.Contains(reason, WeightExtensions.Message(() => Read(File(header, new byte[4]))), StringComparison.Ordinal);

    [Fact]
    public void HeaderLengthIsBounded()
    {
        byte[] bytes = File("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", new byte[4], version: 2);
        bytes[11] = 0xff;
        Assert.Contains("its header claims", WeightExtensions.Message(() => Read(bytes)), StringComparison.Ordinal);
        bytes[6] = 9;
        Assert.Contains("version 9.0", WeightExtensions.Message(() => Read(bytes)), StringComparison.Ordinal);
        Assert.Contains("magic bytes", WeightExtensions.Message(() => Read([1, 2])), StringComparison.Ordinal);
    }

    [Fact]
    public void WrittenFilesAreNumpysOwnBytes()
    {
        // The fixture's prompt was written by numpy itself.
        byte[] golden = System.IO.File.ReadAllBytes(TempFolder.Golden("prompt.npy"));
        NumpyFile prompt = NumpyFile.Read(TempFolder.Golden("prompt.npy"));
        string path = _folder.File("w.npy");
        NumpyFile.Write(path, prompt.Shape, prompt.ToFloats());
        Assert.Equal(golden, System.IO.File.ReadAllBytes(path));

        NumpyFile wide = NumpyFile.Read(TempFolder.Golden("grad_prompt64.npy"));
        NumpyFile.Write(path, wide.Shape, wide.ToDoubles());
        Assert.Equal(System.IO.File.ReadAllBytes(TempFolder.Golden("grad_prompt64.npy")), System.IO.File.ReadAllBytes(path));

        NumpyFile.Write(path, new TensorShape(3), (ReadOnlySpan<long>)[1, -2, 3]);
        Assert.Equal([1L, -2, 3], NumpyFile.Read(path).ToInt64());
        Assert.Throws<ArgumentException>(() => NumpyFile.Write(path, new TensorShape(4), (ReadOnlySpan<long>)[1, -2, 3]));
    }
}
