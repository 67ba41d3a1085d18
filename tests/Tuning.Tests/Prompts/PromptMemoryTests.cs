using IptNative.Kernels.Devices;
using IptNative.Tuning.Prompts;
using Xunit;

namespace IptNative.Tuning.Tests.Prompts;

public sealed class PromptMemoryTests
{
    private static Prompt Make(int length, int width, float start) => new([.. Enumerable.Range(0, length * width).Select(i => start + i)], length, width);

    [Fact]
    public void PromptsOfDifferentLengthsLieSideBySide()
    {
        using var device = new CpuDevice(threads: 1);
        Prompt[] prompts = [Make(3, 5, 0), Make(1, 5, 100), Make(7, 5, 200)];
        using var memory = new PromptMemory(device, prompts);
        Assert.Equal((3, 11, 5), (memory.Table.Count, memory.Table.Rows, memory.Table.DModel));
        for (int i = 0; i < 3; i++)
        {
            Assert.Equal(prompts[i].Values, memory.Read(i).Values);
            Assert.Equal(prompts[i].Length, memory.Read(i).Length);
            Assert.Equal(memory.Table.First(i) * 5L * sizeof(float), memory.Of(i).Address - memory.Table.Values.Address);
        }
    }

    [Fact]
    public void PromptsOfTwoModelsAreRefused()
    {
        using var device = new CpuDevice(threads: 1);
        Assert.Contains("prompt 1 has d_model 4, prompt 0 has 5", Assert.Throws<ArgumentException>(() => new PromptMemory(device, Make(1, 5, 0), Make(1, 4, 0))).Message, StringComparison.Ordinal);
        Assert.Contains("found 0 prompts", Assert.Throws<ArgumentException>(() => new PromptMemory(device)).Message, StringComparison.Ordinal);
    }
}
