# A lock without torch, torchvision and CUDA's libraries, for an image that takes torch from an index of CPU builds.
/^[a-z0-9]/ { keep = !/^(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==/ }
keep
