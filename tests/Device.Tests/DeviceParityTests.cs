// `parity --device`: a fixture of PyTorch's replayed where memory is not the host's, and a weight format's kernels there.
using IptNative.Kernels.Tests.Gpu;
using IptNative.Model.Forward;
using IptNative.Model.Tests.Forward;
using IptNative.Tuning.Parity;
using Xunit;

namespace IptNative.Device.Tests;

public sealed class DeviceParityTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("iptnative-").FullName;

    [Fact]
    public void TheFixtureIsMetByBothForwardPasses()
    {
        // What is not in a fixture is skipped. The traces of tens of steps are left to a GPU, and so are a second loss and other texts: the emulation needs a second for a step.
        foreach (string name in (string[])["config.json", "model.safetensors", "prompt.npy", "input_ids.npy", "attention_mask.npy", "labels.npy", "logits64.npy", "grad_prompt64.npy",
            "encoder_position_bias.npy", "relative_buckets.npy", "encoder_hidden.npy"])
            File.Copy(Path.Combine(Goldens.Folder, name), Path.Combine(_folder, name));
        File.WriteAllText(Path.Combine(_folder, "expected.json"), string.Create(System.Globalization.CultureInfo.InvariantCulture, $$"""{ "loss64": {{Goldens.Expected("loss64"):R}} }"""));
        using HostAcceleratorDevice device = HostAcceleratorDevice.Create();
        var place = new HostAcceleratorPlace();
        RuntimePlace.Provide(device, place);
        ParityReport report = ParityRun.Replay(_folder, null, 1, device);
        Assert.True(report.Passed, string.Join("; ", report.Rows.Where(r => r.Status == ParityStatus.Failed).Select(r => $"{r.Name} {r.MaxRel}: {r.Worst}")));
        foreach (string name in (string[])["relative_buckets", "encoder_position_bias", "logits", "loss", "grad_prompt", "grad_prompt (ort, blocks)", "grad_prompt (native, full)", "grad_prompt (native, sublayers)"])
            Assert.Equal(ParityStatus.Passed, report.Rows.Single(r => r.Name == name).Status);
        Assert.Equal("a device's own kernels keep no padded hidden states", report.Rows.Single(r => r.Name == "encoder_hidden").Reason);
        // Encoder and decoder, with either tape.
        Assert.Equal((4, 4), place.Runs);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);
}
