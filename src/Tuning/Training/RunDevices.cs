// Where a run computes. Deliberately not: what is computed there.
using IptNative.Kernels.Devices;
using IptNative.Tuning.Runs;

namespace IptNative.Tuning.Training;

/// <summary>The device of a run's steps and, where that is a GPU, the CPU beside it, which generates answers.</summary>
internal sealed class RunDevices : IDisposable
{
    private RunDevices(ComputeDevice steps, CpuDevice host) => (Steps, Host) = (steps, host);

    /// <summary>Both passes, prompts, optimizers.</summary>
    public ComputeDevice Steps { get; }

    /// <summary>Answers.</summary>
    public CpuDevice Host { get; }

    /// <summary>Whether the steps are computed on the CPU, too.</summary>
    public bool AreOne => ReferenceEquals(Steps, Host);

    /// <summary>Opens what the options ask for.</summary>
    /// <param name="config">Device, threads, precision.</param>
    /// <param name="note">Told what the user did not ask for in so many words.</param>
    /// <param name="open">Makes the device of the steps in place of the options; null normally.</param>
    /// <exception cref="NotSupportedException">A GPU was asked for and cannot be had.</exception>
    public static RunDevices Open(RunConfig config, Action<string> note, Func<ComputeDevice>? open = null)
    {
        string said = "";
        ComputeDevice steps = open is not null ? open() : DeviceChoice.Parse(config.Device).Open(config.Threads, config.Compute, out said);
        if (said.Length > 0)
            note(said);
        if (steps is CpuDevice one)
            return new RunDevices(one, one);
        note($"steps are computed on {steps.Name}; answers are generated on the CPU, by as many threads as 'threads' says.");
        return new RunDevices(steps, new CpuDevice(config.Threads, config.Compute));
    }

    public void Dispose()
    {
        Steps.Dispose();
        Host.Dispose();
    }
}
