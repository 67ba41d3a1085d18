// A format's gradients are those of its expanded weights; the distance from the original is what a user pays.
using IptNative.Kernels;
using IptNative.Tuning.Parity;
using Xunit;

namespace IptNative.Tuning.Tests.Memory;

public sealed class FormatParityTests
{
    [Fact]
    public void EveryFormatComputesWithItsOwnNumbers()
    {
        string folder = Directory.CreateTempSubdirectory("iptnative-").FullName;
        try
        {
            IReadOnlyList<FormatDistance> rows = FormatParity.Measure(TinyModel.Folder, [DType.F32, DType.BF16, DType.I8, DType.U4], 2, folder);
            Assert.Equal(["f32", "bf16", "int8", "int4"], rows.Select(r => r.Format));
            Assert.All(rows, r => Assert.True(r.Passed, $"{r}"));
            Assert.Equal(0, rows[0].RelativeError, 1e-6);
            // Fewer bits, farther away; all of them still point where float32 does.
            Assert.True(rows[1].RelativeError < rows[3].RelativeError && rows[2].RelativeError < rows[3].RelativeError, string.Join('\n', rows));
            Assert.True(rows[2].Cosine > 0.99 && rows[3].Cosine > 0.7, string.Join('\n', rows));
            Assert.Empty(Directory.EnumerateFileSystemEntries(folder));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
